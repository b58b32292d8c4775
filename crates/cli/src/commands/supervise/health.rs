//! Whether a program is well, by a command of the user's.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Asks again and again, without waiting for an answer.
#[derive(Debug)]
pub struct Health {
    command: String,
    every: Duration,
    timeout: Duration,
    failures: u32,
    failed: u32,
    next: Instant,
    /// It was found well since [`Health::renew`].
    well: bool,
    asking: Option<(Child, Instant)>,
}

impl Health {
    /// `failures`: in a row, before it counts as sick.
    pub fn new(command: &str, every: Duration, timeout: Duration, failures: u32) -> Self {
        Self {
            command: command.to_owned(),
            every,
            timeout,
            failures: failures.max(1),
            failed: 0,
            next: Instant::now() + every,
            well: false,
            asking: None,
        }
    }

    /// Starts to ask anew.
    pub fn renew(&mut self) {
        self.stop();
        self.failed = 0;
        self.well = false;
        self.next = Instant::now() + self.every;
    }

    /// Whether it was found well since [`Health::renew`].
    pub const fn was_well(&self) -> bool {
        self.well
    }

    /// How long it may be sick before that is noticed.
    pub fn unseen(&self) -> Duration {
        (self.every + self.timeout) * self.failures
    }

    /// Why it is sick, if it is.
    pub fn look(&mut self, pid: u32) -> Option<String> {
        let now = Instant::now();
        let why = match &mut self.asking {
            None if now >= self.next => {
                self.next = now + self.every;
                match self.ask(pid) {
                    Ok(child) => {
                        self.asking = Some((child, now));
                        return None;
                    }
                    Err(e) => format!("the health command cannot be started: {e}"),
                }
            }
            None => return None,
            Some((child, since)) => match child.try_wait() {
                Ok(Some(status)) => {
                    self.asking = None;
                    if status.success() {
                        self.failed = 0;
                        self.well = true;
                        return None;
                    }
                    format!("the health command ended with {status}")
                }
                Ok(None) if now.duration_since(*since) >= self.timeout => {
                    self.stop();
                    format!("the health command had no answer in {:?}", self.timeout)
                }
                Ok(None) => return None,
                Err(e) => {
                    self.asking = None;
                    format!("the health command cannot be waited for: {e}")
                }
            },
        };
        self.failed += 1;
        if self.failed < self.failures {
            tracing::info!("{why}");
            return None;
        }
        self.failed = 0;
        Some(why)
    }

    fn ask(&self, pid: u32) -> std::io::Result<Child> {
        Command::new("sh")
            .arg("-c")
            .arg(&self.command)
            .env("STILL_PID", pid.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    }

    fn stop(&mut self) {
        if let Some((mut child, _)) = self.asking.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(command: &str, timeout: u64, failures: u32) -> Option<String> {
        let ms = Duration::from_millis;
        let mut health = Health::new(command, ms(1), ms(timeout), failures);
        let end = Instant::now() + Duration::from_secs(20);
        let mut answers = 0;
        while Instant::now() < end && answers < 200 {
            if let Some(why) = health.look(1) {
                return Some(why);
            }
            answers += 1;
            std::thread::sleep(ms(3));
        }
        None
    }

    #[test]
    fn the_sick_are_told_from_the_well() {
        assert_eq!(verdict("true", 5000, 1), None);
        assert!(
            verdict("exit 3", 5000, 3)
                .unwrap()
                .contains("exit status: 3")
        );
        assert!(verdict("sleep 100", 20, 2).unwrap().contains("no answer"));
        assert!(verdict("test $STILL_PID = 1 || exit 1", 5000, 1).is_none());
    }
}
