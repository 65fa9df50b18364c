//! Asking again: a copy takes long, and one answer that was lost is no reason to begin anew.

use floeberg_client::ClientError;
use std::time::Duration;

/// How often something is asked for before the copy is given up.
const ATTEMPTS: u32 = 5;

/// Before the second attempt; twice as long before each further one.
const PAUSE: Duration = Duration::from_millis(400);

/// Asks for something that may be asked for more than once.
///
/// # Errors
/// That of the last attempt, or the first that asking again cannot change.
pub async fn patiently<T, F>(ask: impl Fn() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let mut pause = PAUSE;
    for _ in 1..ATTEMPTS {
        match ask().await {
            Err(error) if error.may_pass() => tokio::time::sleep(pause).await,
            done => return done,
        }
        pause *= 2;
    }
    ask().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn lost() -> ClientError {
        ClientError::Timeout {
            authority: "store".to_owned(),
            seconds: 60,
        }
    }

    fn wrong() -> ClientError {
        ClientError::Address {
            uri: "ftp://store".to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_asked_for_again_and_what_is_wrong_is_not() {
        let asked = Cell::new(0);
        let fails = |times: u32, how: fn() -> ClientError| {
            asked.set(0);
            let asked = &asked;
            move || {
                asked.set(asked.get() + 1);
                let fails = asked.get() <= times;
                std::future::ready(if fails { Err(how()) } else { Ok(()) })
            }
        };
        assert!(patiently(fails(3, lost)).await.is_ok());
        assert_eq!(asked.get(), 4);
        assert!(patiently(fails(99, lost)).await.is_err());
        assert_eq!(asked.get(), ATTEMPTS);
        assert!(patiently(fails(99, wrong)).await.is_err());
        assert_eq!(asked.get(), 1);
    }
}
