//! Who is asking: every request is one JSON-RPC call with an EdDSA JWT over its body, checked before anything is parsed.
//!
//! The layer reads the whole body, authenticates token and body against the roster, reads the call strictly (duplicate
//! keys, depth, batches), and hands the [`Asked`] on in the request's extensions. A request without a token goes on too:
//! [`Asked::caller`] refuses it wherever a caller is needed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use jsonrpsee::core::BoxError;
use jsonrpsee::server::HttpBody;
use jsonrpsee::types::{Id, ResponsePayload};
use signer::request::{Call, Claims, SignedRequest, parse_call};
use signer::roster::{CredentialId, Role, Roster};
use tower::{Layer, Service};

use crate::clock::Clock;
use crate::error::ApiError;

/// One request, as it was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The call, read strictly from the body.
    pub call: Arc<Call>,
    caller: Option<Caller>,
}

/// Who asked, with the evidence of it.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The credential.
    pub id: CredentialId,
    /// Its role.
    pub role: Role,
    /// What the token claims.
    pub claims: Claims,
    /// Token and body, as they came in.
    pub request: Arc<SignedRequest>,
}

impl Asked {
    /// Who asked.
    ///
    /// # Errors
    /// Where the request came without a token.
    pub fn caller(&self) -> Result<&Caller, ApiError> {
        self.caller.as_ref().ok_or_else(|| ApiError::new("unauthenticated", "the request is not authenticated"))
    }

    /// Who asked, if it is in this role.
    ///
    /// # Errors
    /// Where the request came without a token, or its credential has another role.
    pub fn caller_as(&self, role: Role) -> Result<&Caller, ApiError> {
        let caller = self.caller()?;
        if caller.role == role {
            Ok(caller)
        } else {
            Err(ApiError::new("forbidden", format!("this needs the role {role}; {} has {}", caller.id, caller.role)))
        }
    }
}

/// The layer around the JSON-RPC service.
#[derive(Clone)]
pub struct AuthLayer {
    inner: Arc<Settings>,
}

struct Settings {
    roster: Roster,
    clock: Arc<dyn Clock>,
    leeway_seconds: u64,
    max_body: usize,
}

impl std::fmt::Debug for AuthLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthLayer").finish_non_exhaustive()
    }
}

impl AuthLayer {
    /// Authenticates against `roster`, with clients' clocks off by `leeway_seconds` at most.
    pub fn new(roster: Roster, clock: Arc<dyn Clock>, leeway_seconds: u64, max_body: usize) -> Self {
        Self { inner: Arc::new(Settings { roster, clock, leeway_seconds, max_body }) }
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = AuthService<S>;

    fn layer(&self, service: S) -> AuthService<S> {
        AuthService { settings: Arc::clone(&self.inner), service }
    }
}

/// [`AuthLayer`] around a service.
#[derive(Clone)]
pub struct AuthService<S> {
    settings: Arc<Settings>,
    service: S,
}

impl<S> std::fmt::Debug for AuthService<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthService").finish_non_exhaustive()
    }
}

impl<S, B> Service<Request<B>> for AuthService<S>
where
    S: Service<Request<HttpBody>, Response = Response<HttpBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: http_body_util::BodyExt + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<HttpBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.service.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let settings = Arc::clone(&self.settings);
        // The service that was polled ready is the one to call; its clone stays behind for the next request.
        let service = self.service.clone();
        let mut service = std::mem::replace(&mut self.service, service);
        Box::pin(async move {
            match settings.admit(request).await {
                Ok(request) => service.call(request).await.map_err(Into::into),
                Err(refusal) => Ok(*refusal),
            }
        })
    }
}

impl Settings {
    async fn admit<B>(&self, request: Request<B>) -> Result<Request<HttpBody>, Box<Response<HttpBody>>>
    where
        B: http_body_util::BodyExt + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let (mut parts, body) = request.into_parts();
        if parts.method != Method::POST {
            return Err(closing(answer(StatusCode::METHOD_NOT_ALLOWED, &Id::Null, &not_a_post())));
        }
        let body = match Limited::new(body, self.max_body).collect().await {
            Ok(body) => body.to_bytes().to_vec(),
            Err(error) if error.is::<LengthLimitError>() => {
                let error = ApiError::new("invalid_request", format!("the body is above {} bytes", self.max_body));
                return Err(closing(answer(StatusCode::PAYLOAD_TOO_LARGE, &Id::Null, &error)));
            }
            Err(error) => {
                let error = ApiError::new("invalid_request", format!("the body can't be read: {error}"));
                return Err(answer(StatusCode::BAD_REQUEST, &Id::Null, &error));
            }
        };
        let caller = match bearer(&parts.headers) {
            None => None,
            Some(token) => {
                let signed = SignedRequest { token, body: body.clone() };
                let caller = self.authenticate(signed, parts.uri.path());
                Some(caller.map_err(|error| answer(StatusCode::UNAUTHORIZED, &Id::Null, &error))?)
            }
        };
        let call = parse_call(&body).map_err(|error| answer(StatusCode::OK, &Id::Null, &error.into()))?;
        parts.extensions.insert(Asked { call: Arc::new(call), caller });
        Ok(Request::from_parts(parts, HttpBody::from(body)))
    }

    fn authenticate(&self, signed: SignedRequest, uri: &str) -> Result<Caller, ApiError> {
        let (credential, claims) = signed.authenticate(&self.roster)?;
        claims.check_fresh(self.clock.unix_seconds(), self.leeway_seconds, uri)?;
        Ok(Caller { id: credential.id.clone(), role: credential.role, claims, request: Arc::new(signed.clone()) })
    }
}

fn not_a_post() -> ApiError {
    ApiError::new("invalid_request", "send one JSON-RPC call by HTTP POST")
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?;
    // Whatever stands there is meant to authenticate; what is no bearer token fails as one.
    let text = value.to_str().unwrap_or_default();
    let token = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    Some(token.map_or_else(String::new, |(_, token)| token.trim().to_owned()))
}

/// Says that the connection ends with this answer, as it does where the body wasn't read to its end: no client may send its next
/// payment into it.
fn closing(mut response: Box<Response<HttpBody>>) -> Box<Response<HttpBody>> {
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}

fn answer(status: StatusCode, id: &Id<'_>, error: &ApiError) -> Box<Response<HttpBody>> {
    let response = jsonrpsee::types::Response::new(ResponsePayload::<()>::error(error.object()), id.clone());
    let body = serde_json::to_string(&response).expect("an error object is made of strings and numbers");
    let mut response = Response::new(HttpBody::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json; charset=utf-8"));
    Box::new(response)
}
