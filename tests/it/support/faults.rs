//! What can go wrong between two programs, on purpose: a relay on loopback that delays, stalls, resets, forgets, garbles
//! or cuts what goes through it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    None,
    /// An answer ends in its middle, and with it the connection.
    Cut,
    /// A connection ends that asks PostgreSQL for news. All others are as they were.
    #[cfg(feature = "postgres")]
    Deaf,
    /// Every answer is this late.
    Delay(Duration),
    /// Answers are replaced by bytes that are none.
    Garbage,
    /// What is sent arrives nowhere, and nobody is told.
    HalfOpen,
    /// Connections are reset, new ones too.
    Reset,
    /// Nothing moves until the fault is gone. Then everything does.
    Stall,
}

/// The way through. It ends when it is dropped.
pub struct Faults {
    pub addr: SocketAddr,
    fault: watch::Sender<Fault>,
    questions: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Faults {
    /// In front of a port of loopback.
    pub async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (fault, seen) = watch::channel(Fault::None);
        let questions = Arc::new(AtomicUsize::new(0));
        let counted = questions.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let way = (port, counted.clone());
                tokio::spawn(carry(client, way, seen.clone()));
            }
        });
        Self {
            addr,
            fault,
            questions,
            task,
        }
    }

    /// How often clients have said something since the server last had.
    #[cfg_attr(
        not(feature = "redis"),
        expect(dead_code, reason = "only Redis is asked about that")
    )]
    pub fn questions(&self) -> usize {
        self.questions.load(Ordering::SeqCst)
    }

    /// From now on, for connections that are open too.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Way {
    Back,
    There,
}

async fn carry(
    mut client: TcpStream,
    (port, questions): (u16, Arc<AtomicUsize>),
    mut fault: watch::Receiver<Fault>,
) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    let (there, back) = (fault.clone(), fault.clone());
    let (client_reads, client_writes) = client.split();
    let (server_reads, server_writes) = server.split();
    let answered = AtomicBool::new(true);
    let asks = || {
        if answered.swap(false, Ordering::SeqCst) {
            questions.fetch_add(1, Ordering::SeqCst);
        }
    };
    let answers = || answered.store(true, Ordering::SeqCst);
    tokio::select! {
        _ = pump((client_reads, server_writes), (there, Way::There), asks) => {}
        _ = pump((server_reads, client_writes), (back, Way::Back), answers) => {}
        _ = fault.wait_for(|fault| *fault == Fault::Reset) => {}
    }
    if *fault.borrow() == Fault::Reset {
        client.set_zero_linger().unwrap();
    }
}

/// Ends with the connection.
async fn pump(
    (mut from, mut to): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    (mut fault, way): (watch::Receiver<Fault>, Way),
    note: impl Fn(),
) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        let bytes = &mut buffer[..count];
        if bytes.is_empty() {
            return Ok(());
        }
        note();
        let now = *fault.borrow();
        match (now, way) {
            #[cfg(feature = "postgres")]
            (Fault::Deaf, Way::There) if bytes.windows(6).any(|word| word == b"LISTEN") => {
                return Ok(());
            }
            (Fault::HalfOpen, _) => continue,
            (Fault::Stall, _) => {
                let lifted = fault.wait_for(|fault| *fault != Fault::Stall).await;
                if lifted.is_err() {
                    return Ok(());
                }
            }
            (Fault::Delay(span), Way::Back) => tokio::time::sleep(span).await,
            (Fault::Garbage, Way::Back) => bytes.fill(b'~'),
            (Fault::Cut, Way::Back) => {
                let half = bytes.len() / 2;
                return to.write_all(&bytes[..half]).await;
            }
            _ => {}
        }
        to.write_all(bytes).await?;
    }
}
