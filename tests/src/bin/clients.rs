//! `clients HOW COUNT ADDRESS`: COUNT connections to an HTTP server, as a client makes them that costs it the most. It says
//! `ready` once all are made, and holds them until its standard input ends.
//!
//! | HOW | what each connection does |
//! |---|---|
//! | `idle` | sends nothing |
//! | `slow` | asks for `/metrics` and reads nothing |
//! | `once` | asks for `/metrics` and reads it; says how many bytes it was |
//!
//! `clients serve SOCKET LINE` is a server of its own: it answers each request on a unix socket with LINE, `\e` in which is ESC.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;

use rustix::net::{
    AddressFamily, SocketType, connect, socket, sockopt::set_socket_recv_buffer_size,
};
use rustix::process::{Resource, getrlimit, setrlimit};

/// As small as the kernel makes it.
const LITTLE: usize = 1;

const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: agent\r\n\r\n";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["serve", socket, line] => serve(socket, line),
        [how @ ("idle" | "slow" | "once"), count, address] => {
            match (count.parse(), address.parse()) {
                (Ok(count), Ok(address)) => hold(how, count, address),
                _ => Err(io::Error::other("wanted: COUNT and ADDRESS:PORT")),
            }
        }
        _ => Err(io::Error::other(
            "usage: clients idle|slow|once COUNT ADDRESS, clients serve SOCKET LINE",
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("clients: {error}");
            ExitCode::FAILURE
        }
    }
}

fn hold(how: &str, count: usize, address: SocketAddr) -> io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = connected(how, address)?;
        if how != "idle" {
            // A server that refuses may have closed it.
            let _ = stream.write_all(REQUEST);
        }
        if how == "once" {
            println!("{} bytes", read_answer(&mut stream)?);
        }
        held.push(stream);
    }
    println!("ready");
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn connected(how: &str, address: SocketAddr) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let stream = socket(family, SocketType::STREAM, None)?;
    if how == "slow" {
        // Before it is connected, so that the server is told how little there is.
        set_socket_recv_buffer_size(&stream, LITTLE)?;
    }
    connect(&stream, &address)?;
    Ok(stream.into())
}

/// Reads one answer that says its length.
fn read_answer(stream: &mut TcpStream) -> io::Result<usize> {
    let mut answer = Vec::new();
    let mut piece = vec![0; 1 << 16];
    loop {
        let head = answer.windows(4).position(|end| end == b"\r\n\r\n");
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&answer[..head]).to_lowercase();
            let mut lines = text.lines();
            let length = lines.find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let length: usize = length.ok_or_else(|| io::Error::other("no length"))?;
            if !text.starts_with("http/1.1 200") {
                return Err(io::Error::other(text));
            }
            if answer.len() >= head + 4 + length {
                return Ok(length);
            }
        }
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => answer.extend_from_slice(&piece[..read]),
        }
    }
}

fn serve(socket: &str, line: &str) -> io::Result<()> {
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666))?;
    println!("ready");
    let line = line.replace(r"\e", "\x1b") + "\n";
    for stream in listener.incoming() {
        // Its client may have had enough.
        let _ = answer(stream?, &line);
    }
    Ok(())
}

fn answer(mut stream: UnixStream, line: &str) -> io::Result<()> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? > 0 {
        request.extend(byte);
    }
    let length = line.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{line}"
    )
}
