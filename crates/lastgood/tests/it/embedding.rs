//! The example of the documentation is a test: what it shows works.

#[expect(dead_code, unreachable_pub, reason = "it has a main of its own")]
#[path = "../../examples/desktop.rs"]
mod desktop;

use lastgood::system::Home;

#[test]
fn a_desktop_application_backs_up_and_shows_progress() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let home = Home { data: at("data"), cache: at("cache"), state: at("state") };
    std::fs::create_dir(at("documents")).unwrap();
    std::fs::write(at("documents/letter"), b"dear reader").unwrap();
    let shown = std::cell::RefCell::new(Vec::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let documents = at("documents");
    let done = desktop::back_up(&documents, &home, |text| shown.borrow_mut().push(text));
    assert_eq!(runtime.block_on(done).unwrap(), "1 files are safe");
    assert!(shown.borrow()[0].starts_with("Write this down"));
}
