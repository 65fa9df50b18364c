//! `POST /v1/oauth/tokens`: client credentials and token exchange (RFC 6749, RFC 8693).
//!
//! Deprecated in the specification, and yet what every client's `credential` setting uses.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use floeberg_auth::{BEARER_LIFETIME_MS, BearerToken, Keyring};
use floeberg_http::{Answer, Call, json, with_code, with_header};
use http::StatusCode;
use http::header::{AUTHORIZATION, CACHE_CONTROL, WWW_AUTHENTICATE};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use std::collections::BTreeSet;

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// Parameters of a form. RFC 6749 and RFC 8693 know about fifteen, and clients may add their own.
const FORM_FIELDS_MAX: usize = 64;
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

#[derive(Serialize)]
struct Token<'a> {
    access_token: String,
    token_type: &'static str,
    expires_in: i64,
    issued_token_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'static str,
    error_description: &'a str,
}

/// Why no token was issued; names are those of RFC 6749, section 5.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    Request(&'static str),
    Client,
    ClientByHeader,
    Grant(&'static str),
    GrantType,
}

/// Form fields; a field that comes twice makes the request invalid (RFC 6749, section 3.2).
struct Form(Vec<(String, String)>);

impl Form {
    fn parse(body: &[u8]) -> Result<Self, Refused> {
        if body.split(|b| *b == b'&').nth(FORM_FIELDS_MAX).is_some() {
            return Err(Refused::Request("the form has more than 64 parameters"));
        }
        let fields: Vec<(String, String)> = serde_urlencoded::from_bytes(body)
            .map_err(|_| Refused::Request("the body is not form-urlencoded"))?;
        let mut names = BTreeSet::new();
        if !fields.iter().all(|(name, _)| names.insert(name.as_str())) {
            return Err(Refused::Request("a parameter is given more than once"));
        }
        Ok(Self(fields))
    }

    fn get(&self, name: &str) -> Option<&str> {
        let mut fields = self.0.iter();
        fields
            .find(|(n, v)| n == name && !v.is_empty())
            .map(|(_, v)| v.as_str())
    }
}

pub(crate) fn get_token(keys: &Keyring, call: &Call) -> Answer {
    let issued = Form::parse(&call.body).and_then(|form| {
        let token = issue(keys, call, &form)?;
        Ok((token, form.get("scope").map(ToOwned::to_owned)))
    });
    let answer = match issued {
        Ok((token, scope)) => json(
            StatusCode::OK,
            &Token {
                access_token: token.token,
                token_type: "bearer",
                expires_in: BEARER_LIFETIME_MS / 1000,
                issued_token_type: ACCESS_TOKEN,
                scope: scope.as_deref(),
            },
        ),
        Err(refused) => refuse(refused),
    };
    with_header(answer, CACHE_CONTROL, "no-store")
}

fn issue(keys: &Keyring, call: &Call, form: &Form) -> Result<BearerToken, Refused> {
    match form.get("grant_type") {
        Some("client_credentials") => {
            authenticate(keys, call, form)?;
            Ok(keys.issue_bearer(call.arrived))
        }
        Some(EXCHANGE) => {
            if form
                .get("subject_token_type")
                .is_some_and(|kind| kind != ACCESS_TOKEN)
            {
                return Err(Refused::Request("only access tokens can be exchanged"));
            }
            let subject = form.get("subject_token").ok_or(Refused::Request(
                "subject_token is required for a token exchange",
            ))?;
            keys.renew_bearer(subject, call.arrived)
                .map_err(|_| Refused::Grant("the subject token is not valid or has expired"))
        }
        Some(_) => Err(Refused::GrantType),
        None => Err(Refused::Request("grant_type is required")),
    }
}

/// Checks the client's id and secret, in the header or in the form.
fn authenticate(keys: &Keyring, call: &Call, form: &Form) -> Result<(), Refused> {
    // Any other scheme is a leftover of an earlier session and no statement of who the client is.
    let header = call.header(AUTHORIZATION.as_str()).unwrap_or_default();
    if header
        .get(..6)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("basic "))
    {
        return match basic(header) {
            Some((id, secret)) if accepts(keys, &id, &secret) => Ok(()),
            _ => Err(Refused::ClientByHeader),
        };
    }
    let (Some(id), Some(secret)) = (form.get("client_id"), form.get("client_secret")) else {
        return Err(Refused::Request("client_id and client_secret are required"));
    };
    keys.check_client(id, secret)
        .map(|_| ())
        .map_err(|_| Refused::Client)
}

/// Clients differ in whether they encode id and secret before joining them (RFC 6749, section
/// 2.3.1); both forms are tried.
fn accepts(keys: &Keyring, id: &str, secret: &str) -> bool {
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    keys.check_client(id, secret).is_ok() || keys.check_client(&decode(id), &decode(secret)).is_ok()
}

fn basic(header: &str) -> Option<(String, String)> {
    let (_, text) = header.split_once(' ')?;
    let bytes = STANDARD.decode(text.trim()).ok()?;
    let (id, secret) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
    Some((id.to_owned(), secret.to_owned()))
}

fn refuse(refused: Refused) -> Answer {
    let (status, error, text) = match refused {
        Refused::Request(text) => (StatusCode::BAD_REQUEST, "invalid_request", text),
        Refused::Grant(text) => (StatusCode::BAD_REQUEST, "invalid_grant", text),
        Refused::GrantType => (
            StatusCode::BAD_REQUEST,
            "unsupported_grant_type",
            "supported: client_credentials, token exchange",
        ),
        Refused::Client | Refused::ClientByHeader => (
            StatusCode::UNAUTHORIZED,
            "invalid_client",
            "the client id or client secret is not valid",
        ),
    };
    let answer = json(
        status,
        &ErrorBody {
            error,
            error_description: text,
        },
    );
    let answer = with_code(answer, error);
    match refused {
        Refused::ClientByHeader => {
            with_header(answer, WWW_AUTHENTICATE, "Basic realm=\"floeberg\"")
        }
        _ => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_once_and_are_few() {
        let form = |text: &str| Form::parse(text.as_bytes()).map(|form| form.0.len());
        assert_eq!(form("grant_type=x&client_id=a%20b"), Ok(2));
        let twice = form("a=1&b=2&a=3");
        assert_eq!(
            twice,
            Err(Refused::Request("a parameter is given more than once"))
        );
        let many = |count: usize| (0..count).map(|i| format!("f{i}")).collect::<Vec<_>>();
        assert_eq!(form(&many(FORM_FIELDS_MAX).join("&")), Ok(FORM_FIELDS_MAX));
        let too_many = form(&many(FORM_FIELDS_MAX + 1).join("&"));
        assert!(matches!(too_many, Err(Refused::Request(text)) if text.contains("64")));
    }
}
