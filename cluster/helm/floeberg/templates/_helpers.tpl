{{- define "floeberg.name" -}}
{{- if contains "floeberg" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-floeberg" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "floeberg.selector" -}}
app.kubernetes.io/name: floeberg
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "floeberg.labels" -}}
{{ include "floeberg.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "floeberg.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "floeberg.scheme" -}}
{{ if .Values.tls.existingSecret }}https{{ else }}http{{ end }}
{{- end }}

{{- define "floeberg.host" -}}
{{ include "floeberg.name" . }}.{{ .Release.Namespace }}.svc.{{ .Values.cluster.domain }}
{{- end }}

{{/* Where the pod $(POD_NAME) is reached by the other nodes. */}}
{{- define "floeberg.peer" -}}
{{ include "floeberg.name" . }}-peers.{{ .Release.Namespace }}.svc.{{ .Values.cluster.domain }}:7000
{{- end }}

{{/* What every container that runs floeberg has in common. */}}
{{- define "floeberg.container" -}}
image: {{ include "floeberg.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  - name: POD_NAME
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  - name: MACHINE
    valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
  - name: ADVERTISE
    value: "$(POD_NAME).{{ include "floeberg.peer" . }}"
  # For the commands that ask a node: `floeberg cluster ...` in the pod needs no options.
  - name: FLOEBERG_ENDPOINT
    value: "{{ include "floeberg.scheme" . }}://{{ include "floeberg.host" . }}:8181"
  - name: FLOEBERG_REGION
    value: {{ .Values.cluster.region | quote }}
  - name: FLOEBERG_ACCOUNT
    value: {{ .Values.cluster.account | quote }}
  {{- if .Values.tls.caSecret }}
  - name: FLOEBERG_CA
    value: "/etc/floeberg-ca/{{ .Values.tls.caKey }}"
  {{- end }}
  - name: FLOEBERG_ROOT_ACCESS_KEY
    valueFrom: {secretKeyRef: {name: {{ .Values.rootKeys.existingSecret | quote }}, key: access-key}}
  - name: FLOEBERG_ROOT_SECRET_KEY
    valueFrom: {secretKeyRef: {name: {{ .Values.rootKeys.existingSecret | quote }}, key: secret-key}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
volumeMounts:
  - {name: data, mountPath: /var/lib/floeberg}
  {{- if .Values.storage.log.enabled }}
  - {name: log, mountPath: /var/lib/floeberg-log}
  {{- end }}
  - {name: config, mountPath: /etc/floeberg, readOnly: true}
  - {name: tmp, mountPath: /tmp}
  {{- if .Values.tls.existingSecret }}
  - {name: tls, mountPath: /etc/floeberg-tls, readOnly: true}
  {{- end }}
  {{- if .Values.tls.caSecret }}
  - {name: ca, mountPath: /etc/floeberg-ca, readOnly: true}
  {{- end }}
{{- end }}

{{- define "floeberg.claim" -}}
accessModes: [ReadWriteOnce]
{{- with .storageClass }}
storageClassName: {{ . | quote }}
{{- end }}
resources: {requests: {storage: {{ .size }}}}
{{- end }}
