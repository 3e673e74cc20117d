//! A desktop application that backs up a folder and shows how far it is, in forty lines.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lastgood::backup::{self, BackupOptions};
use lastgood::{Error, Event, Home, opening, system, this_host};

/// Backs `folder` up into the user's default repository; `show` is called four times a second.
///
/// # Errors
/// What opening the repository or the backup itself meets.
pub async fn back_up(folder: &Path, home: &Home, show: impl Fn(String)) -> Result<String, Error> {
    let opened = opening::open_default(home, system::world(), "desktop")?;
    if let Some(code) = &opened.recovery_code {
        show(format!("Write this down, it is shown once: {}", code.as_str()));
    }
    let mut options = BackupOptions::new(vec![folder.to_owned()], home.state.clone());
    options.host = this_host::name();
    options.host_id = this_host::id(home, &system::world())?;
    options.estimate = true;

    let mut job = backup::start(opened.repo, options);
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    loop {
        tokio::select! {
            event = job.next_event() => match event {
                Some(Event::Problem(problem)) => show(format!("{problem:?}")),
                Some(_) => {}
                None => break,
            },
            _ = tick.tick() => show(format!("{} files so far", job.progress().files_done)),
        }
    }
    let report = job.await?;
    Ok(format!("{} files are safe", report.totals.files))
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "an application may print")]
async fn main() -> Result<(), Error> {
    let folder: PathBuf = std::env::args_os().nth(1).unwrap_or_else(|| ".".into()).into();
    let data = std::env::temp_dir().join("lastgood-desktop");
    let home = Home { cache: data.join("cache"), state: data.join("state"), data };
    println!("{}", back_up(&folder, &home, |text| println!("{text}")).await?);
    Ok(())
}
