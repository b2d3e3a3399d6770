//! A TCP proxy whose cable can be pulled out and put in again, or go dead without a word.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A proxy before one address.
pub(crate) struct Proxy {
    addr: SocketAddr,
    cable: watch::Sender<Cable>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cable {
    Whole,
    Cut,
    Dead,
}

impl Proxy {
    /// Listens on a port of its own and passes everything on to `target`.
    pub(crate) fn start(target: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.set_nonblocking(true).expect("the listener is ours");
        let addr = listener.local_addr().expect("it is bound");
        let listener = TcpListener::from_std(listener).expect("the listener is ours");
        let cable = watch::Sender::new(Cable::Whole);
        let cables = cable.clone();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (mut cut, mut dead) = (cables.subscribe(), cables.subscribe());
                tokio::spawn(async move {
                    let pass = async {
                        let mut far = TcpStream::connect(target).await?;
                        tokio::select! {
                            biased;
                            () = async { drop(dead.wait_for(|cable| *cable == Cable::Dead).await) } => std::future::pending().await,
                            passed = tokio::io::copy_bidirectional(&mut near, &mut far) => passed,
                        }
                    };
                    tokio::select! {
                        biased;
                        _ = cut.wait_for(|cable| *cable == Cable::Cut) => (),
                        _ = pass => (),
                    }
                });
            }
        });
        Self { addr, cable }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends every connection, and each that is made from here on.
    pub(crate) fn cut(&self) {
        self.cable.send_replace(Cable::Cut);
    }

    /// Passes nothing on any more, and tells nobody.
    #[allow(dead_code, reason = "not every test file lets a cable go dead")]
    pub(crate) fn fall_silent(&self) {
        self.cable.send_replace(Cable::Dead);
    }

    /// Lets connections be made again.
    pub(crate) fn mend(&self) {
        self.cable.send_replace(Cable::Whole);
    }

    /// Something that cuts the cable later.
    #[allow(dead_code, reason = "not every test file cuts in the middle of rounds")]
    pub(crate) fn cutter(&self) -> impl FnOnce() + Send + 'static {
        let cable = self.cable.clone();
        move || {
            cable.send_replace(Cable::Cut);
        }
    }
}
