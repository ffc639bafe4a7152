//! A network between the program and a server, which can be cut.

use std::{net::Ipv4Addr, sync::Arc};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What happens to the connections there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Both ends hear of it.
    Reset,
    /// The server hears of nothing and waits, as behind a firewall that forgot the connection.
    Unheard,
    /// Neither end hears anything any more.
    Silence,
}

#[derive(Debug, Clone, Copy)]
struct Weather {
    /// Whether new connections come through.
    open: bool,
    /// How often the connections were cut, and how the last time.
    cuts: u64,
    last: Cut,
}

/// Listens on 127.0.0.1 and passes on what comes.
pub(crate) struct Proxy {
    weather: Arc<watch::Sender<Weather>>,
    port: u16,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Before the server that listens on `port`.
    pub(crate) async fn before(port: u16) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let weather = Arc::new(watch::Sender::new(Weather {
            open: true,
            cuts: 0,
            last: Cut::Reset,
        }));
        let sender = weather.clone();
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let seen = sender.subscribe();
                tokio::spawn(pass(client, port, seen));
            }
        });
        Proxy {
            weather,
            port: own,
            task,
        }
    }

    /// How the program reaches the server through it.
    pub(crate) fn conninfo(&self) -> String {
        format!(
            "host=127.0.0.1 port={} user=postgres dbname=postgres sslmode=disable",
            self.port
        )
    }

    /// Cuts all connections; new ones come through.
    pub(crate) fn cut(&self, how: Cut) {
        self.weather.send_modify(|weather| {
            weather.cuts += 1;
            weather.last = how;
        });
    }

    /// Cuts all connections, and resets new ones until [`Proxy::open`].
    pub(crate) fn close(&self) {
        self.weather.send_modify(|weather| weather.open = false);
        self.cut(Cut::Reset);
    }

    pub(crate) fn open(&self) {
        self.weather.send_modify(|weather| weather.open = true);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection, to its end.
async fn pass(mut client: TcpStream, port: u16, mut weather: watch::Receiver<Weather>) {
    let began = *weather.borrow();
    client.set_zero_linger().unwrap();
    if !began.open {
        return;
    }
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
        return;
    };
    let ended = tokio::select! {
        ended = copy_bidirectional(&mut client, &mut server) => Some(ended),
        cut = weather.wait_for(|now| now.cuts > began.cuts) => { drop(cut); None }
    };
    if ended.is_some() {
        return;
    }
    let how = weather.borrow().last;
    match how {
        Cut::Reset => server.set_zero_linger().unwrap(),
        Cut::Unheard => drop(client),
        Cut::Silence => {}
    }
    if how != Cut::Reset {
        // Whatever is held stays as it is until the proxy goes.
        while weather.changed().await.is_ok() {}
    }
}
