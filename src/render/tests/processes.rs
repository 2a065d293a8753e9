//! What happens to the processes: death, deadlines, bounds and idleness.

use super::*;
use crate::telemetry::metrics::Metrics;

#[tokio::test]
async fn a_worker_killed_in_the_middle_of_a_build_is_a_crash_and_the_next_build_works() {
    let pool = pool();
    pool.render(&at("prod"), Arc::new(app())).await.unwrap();
    let id = pool.idle_ids()[0];
    let murderous = app().on_read(move |path| {
        if path == "base/settings.yaml" {
            kill(id);
        }
    });
    let error = pool.render(&at("prod"), Arc::new(murderous)).await.unwrap_err();
    assert!(
        matches!(&error, RenderError::Crashed { status, .. } if status.contains("SIGKILL")),
        "{error:?}"
    );
    assert_eq!(
        pool.render(&at("prod"), Arc::new(app())).await.unwrap().objects.len(),
        1
    );
    assert_ne!(pool.idle_ids()[0], id);
}

#[tokio::test]
async fn a_worker_killed_while_idle_is_replaced_without_a_word() {
    let pool = pool();
    pool.render(&at("prod"), Arc::new(app())).await.unwrap();
    let id = pool.idle_ids()[0];
    kill(id);
    assert_eq!(
        pool.render(&at("prod"), Arc::new(app())).await.unwrap().objects.len(),
        1
    );
    assert_ne!(pool.idle_ids()[0], id);
    assert_eq!(*pool.live().borrow(), 1);
}

fn kill(id: u32) {
    assert!(
        Command::new("kill")
            .args(["-9", &id.to_string()])
            .status()
            .unwrap()
            .success()
    );
}

#[tokio::test]
async fn a_build_ends_at_its_deadline() {
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let slow = app().on_read(move |path| {
        if path == "base/settings.yaml" {
            held.lock().unwrap().recv().ok();
        }
    });
    // Long enough to start a worker on a busy machine; the build itself never ends.
    let mut options = Options::new(program());
    options.deadline = Duration::from_secs(2);
    let metrics = Metrics::new().unwrap();
    let pool = Pool::observed(options, metrics.clone());
    let error = pool.render(&at("prod"), Arc::new(slow)).await.unwrap_err();
    assert!(
        matches!(&error, RenderError::TimedOut { path, .. } if path == "prod"),
        "{error:?}"
    );
    assert_eq!(*pool.live().borrow(), 0);
    drop(release);
    assert_eq!(
        pool.render(&at("prod"), Arc::new(app())).await.unwrap().objects.len(),
        1
    );
    let told = metrics.text();
    for line in [
        "weir_worker_exits_total{reason=\"deadline\"} 1",
        "weir_workers{state=\"busy\"} 0",
        "weir_workers{state=\"idle\"} 1",
    ] {
        assert!(told.lines().any(|one| one == line), "{line} is not in\n{told}");
    }
}

#[tokio::test]
async fn a_build_that_nobody_waits_for_any_more_is_stopped() {
    let (started, mut starts) = tokio::sync::mpsc::unbounded_channel();
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let slow = app().on_read(move |_| {
        started.send(()).ok();
        held.lock().unwrap().recv().ok();
    });
    let pool = pool();
    let request = at("prod");
    tokio::select! {
        outcome = pool.render(&request, Arc::new(slow)) => panic!("{outcome:?}"),
        _ = starts.recv() => {}
    }
    assert_eq!(*pool.live().borrow(), 0);
    drop(release);
    assert_eq!(pool.render(&request, Arc::new(app())).await.unwrap().objects.len(), 1);
}

#[tokio::test]
async fn builds_run_at_once_and_no_more_than_there_are_workers() {
    let mut options = Options::new(program());
    options.workers = 2;
    let pool = Pool::new(options);
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let both = Arc::new(Barrier::new(2));
    let tree = Arc::new({
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        app().on_read(move |path| {
            if path == "base/settings.yaml" {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                both.wait(); // never returns unless two builds are here at once
                running.fetch_sub(1, Ordering::SeqCst);
            }
        })
    });
    let request = at("prod");
    let builds = (0..8).map(|_| pool.render(&request, tree.clone()));
    for rendered in futures::future::join_all(builds).await {
        assert_eq!(rendered.unwrap().objects.len(), 1);
    }
    assert_eq!(most.load(Ordering::SeqCst), 2);
    assert_eq!(*pool.live().borrow(), 2);
}

#[tokio::test]
async fn workers_end_when_there_is_nothing_to_do() {
    let mut options = Options::new(program());
    options.idle = Duration::from_millis(20);
    let pool = Pool::new(options);
    let mut live = pool.live();
    for _ in 0..2 {
        pool.render(&at("prod"), Arc::new(app())).await.unwrap();
        live.wait_for(|live| *live == 0).await.unwrap();
        assert!(pool.idle_ids().is_empty());
    }
}

#[tokio::test]
async fn a_stopped_pool_ends_its_workers_and_takes_no_more_builds() {
    let pool = pool();
    pool.render(&at("prod"), Arc::new(app())).await.unwrap();
    pool.stop().await;
    assert_eq!(*pool.live().borrow(), 0);
    let error = pool.render(&at("prod"), Arc::new(app())).await.unwrap_err();
    assert_eq!(error.to_string(), "render worker: Weir is stopping");
}

#[tokio::test]
async fn a_build_that_outgrows_its_memory_fails_cleanly() {
    let mut bomb =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\ndata:\n  a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for i in 1..9 {
        let item = format!("*a{}", i - 1);
        bomb.push_str(&format!("  a{i}: &a{i} [{}]\n", [item.as_str(); 9].join(",")));
    }
    let mut options = Options::new(program());
    options.memory = 128 << 20;
    let pool = Pool::new(options);
    let error = pool
        .render(&at("prod"), Arc::new(app().with("base/settings.yaml", &bomb)))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, RenderError::TooLarge { what, limit, .. } if what == "bytes of memory" && *limit == 128 << 20),
        "{error:?}"
    );
    assert_eq!(
        pool.render(&at("prod"), Arc::new(app())).await.unwrap().objects.len(),
        1
    );
}

#[tokio::test]
async fn a_program_that_is_no_worker_is_named_for_what_it_is() {
    for (program, says) in [
        ("/no/such/renderer", "cannot start /no/such/renderer: No such file"),
        ("/bin/false", "ended in the middle of a build (exit status: 1)"),
        ("/bin/echo", "a frame of 757951845 bytes, at most 33554432 are allowed"),
    ] {
        let pool = Pool::new(Options::new(program));
        let error = pool.render(&at("prod"), Arc::new(app())).await.unwrap_err();
        assert!(error.to_string().contains(says), "{program}: {error}");
        assert_eq!(*pool.live().borrow(), 0);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_worker_has_no_environment_and_no_file() {
    let pool = pool();
    pool.render(&at("prod"), Arc::new(app())).await.unwrap();
    let proc = PathBuf::from(format!("/proc/{}", pool.idle_ids()[0]));
    assert_eq!(std::fs::read(proc.join("environ")).unwrap(), b"");
    let open = std::fs::read_dir(proc.join("fd")).unwrap();
    let kinds: BTreeSet<String> = open
        .map(|fd| {
            std::fs::read_link(fd.unwrap().path())
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .map(|target| target.split(':').next().unwrap_or_default().to_owned())
        .collect();
    // Three pipes, what Go's runtime makes for itself and its look at the processor quota, and /dev/null if whoever started
    // Weir left one open.
    let usual = |kind: &str| matches!(kind, "pipe" | "anon_inode" | "/dev/null") || kind.starts_with("/sys/fs/cgroup/");
    assert!(kinds.iter().all(|kind| usual(kind)), "{kinds:?}");
}
