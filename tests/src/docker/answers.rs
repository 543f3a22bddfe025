//! An engine that has one container and says of it what a test wants: where it says so, no docker does.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use serde_json::json;
use tempfile::TempDir;

/// It answers as long as the test runs.
pub struct Answers {
    _directory: TempDir,
    socket: String,
}

#[derive(Clone)]
struct Container {
    id: String,
    name: String,
    process: u32,
}

impl Answers {
    /// Listens; the container has this id and name, and `process` is its first, 0 while it does not run.
    ///
    /// # Panics
    /// Where nobody can listen.
    pub fn start(id: &str, name: &str, process: u32) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("docker.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        let container = Container {
            id: id.to_owned(),
            name: name.to_owned(),
            process,
        };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let container = container.clone();
                thread::spawn(move || container.serve(stream));
            }
        });
        Self {
            _directory: directory,
            socket: path.to_str().expect("UTF-8").to_owned(),
        }
    }

    /// Where it listens.
    pub fn socket(&self) -> &str {
        &self.socket
    }
}

impl Container {
    fn serve(&self, stream: UnixStream) {
        let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
        let mut writer = stream;
        loop {
            let mut request = String::new();
            if reader.read_line(&mut request).unwrap_or_default() == 0 {
                return;
            }
            let mut header = String::new();
            while reader.read_line(&mut header).unwrap_or_default() > 2 {
                header.clear();
            }
            let path = request.split(' ').nth(1).unwrap_or_default();
            let path = path.split('?').next().unwrap_or_default();
            let answer = match path.rsplit_once('/').unwrap_or_default() {
                (_, "events") => {
                    // It goes on, and nothing happens.
                    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                    let _ = writer.write_all(head.as_bytes());
                    continue;
                }
                (_, "version") => json!({"ApiVersion": "1.41"}),
                (above, "json") if above.ends_with("/containers") => json!([
                    {"Id": self.id, "Names": [format!("/{}", self.name)], "Image": "busybox"}
                ]),
                (above, "json") if above.ends_with(&self.id) => json!({
                    "Id": self.id, "State": {"Pid": self.process}, "HostConfig": {"PidsLimit": 50}
                }),
                _ => json!({}),
            };
            let text = answer.to_string();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                text.len()
            );
            if writer.write_all((head + &text).as_bytes()).is_err() {
                return;
            }
        }
    }
}
