//! Processes that were stopped in the middle of whatever they did.

use std::process::Command;

/// They go on when this is dropped.
#[derive(Default)]
pub struct Frozen(Vec<String>);

impl Frozen {
    /// `false`: it has ended.
    pub fn stop(&mut self, id: &str) -> bool {
        self.0.push(id.to_owned());
        signal("STOP", id)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for id in &self.0 {
            // One that somebody else has ended needs no more.
            let _goes_on = signal("CONT", id);
        }
    }
}

fn signal(name: &str, id: &str) -> bool {
    let mut kill = Command::new("kill");
    let told = kill.args(["-s", name, id]).output().unwrap();
    told.status.success()
}
