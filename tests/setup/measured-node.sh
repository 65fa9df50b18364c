# A node of $floeberg for a benchmark: on a directory and ports of its own, ended with the script that reads this file.
#
# Sets $node (its process), $home, and `uri NAME`, an address from its ready file; its keys are in the environment.
export FLOEBERG_ROOT_ACCESS_KEY=BENCHROOT FLOEBERG_ROOT_SECRET_KEY=bench-root-secret
home=$(mktemp -d -t floeberg-bench-XXXXXX)
node=
trap 'kill -9 $node 2>/dev/null || true; wait $node 2>/dev/null || true; rm -rf "$home"' EXIT
trap 'exit 130' INT TERM
"$floeberg" dev --data-dir "$home/data" --port 0 --s3-port 0 --ready-file "$home/ready" >"$home/log" 2>&1 &
node=$!
tries=0
until [ -f "$home/ready" ]; do
    tries=$((tries + 1))
    if [ $tries -gt 600 ] || ! kill -0 $node 2>/dev/null; then
        cat "$home/log" >&2
        exit 1
    fi
    sleep 0.1
done
uri() { sed -n "s/.*\"$1\": \"\([^\"]*\)\".*/\1/p" "$home/ready"; }
