//! A hostile wire between HAProxy and herdgate: it can be late, cut, reset or answer another question.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

/// What happens to herdgate's answers. Greetings always pass, or there would be no question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// They pass.
    None,
    /// 300 ms late.
    Late,
    /// The connection is reset instead.
    Reset,
    /// The first half, then the end.
    Cut,
    /// With the stream-id of no question that is open.
    Elsewhere,
    /// Sent twice.
    Twice,
}
const HARMS: [Harm; 6] = [Harm::None, Harm::Late, Harm::Reset, Harm::Cut, Harm::Elsewhere, Harm::Twice];

/// The wire. Its threads end with the process.
pub struct Relay {
    /// Where HAProxy connects.
    pub address: SocketAddr,
    harm: Arc<AtomicU8>,
    struck: Arc<AtomicUsize>,
}

/// The first byte of an ACK's payload part: frame type 103 (HAProxy `doc/SPOE.txt` section 3.2).
const ACK: u8 = 103;

impl Relay {
    /// Listens for HAProxy and leads to `to`.
    pub fn start(to: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (harm, struck) = (Arc::new(AtomicU8::new(0)), Arc::new(AtomicUsize::new(0)));
        let (harms, strikes) = (harm.clone(), struck.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(agent) = TcpStream::connect(to) else { continue };
                let (mut from, mut into) = (client.try_clone().unwrap(), agent.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut into);
                    let _ = into.shutdown(Shutdown::Both);
                });
                let (harms, strikes) = (harms.clone(), strikes.clone());
                std::thread::spawn(move || answers(agent, client, &harms, &strikes));
            }
        });
        Relay { address, harm, struck }
    }

    /// Does this from now on.
    pub fn set(&self, harm: Harm) {
        let index = HARMS.iter().position(|known| *known == harm).unwrap();
        self.harm.store(u8::try_from(index).unwrap(), Ordering::SeqCst);
        self.struck.store(0, Ordering::SeqCst);
    }

    /// Answers harmed since.
    pub fn struck(&self) -> usize {
        self.struck.load(Ordering::SeqCst)
    }
}

/// Carries frames one by one: 4 bytes of length, then the frame.
fn answers(mut agent: TcpStream, mut client: TcpStream, harm: &AtomicU8, struck: &AtomicUsize) -> Option<()> {
    loop {
        let mut length = [0; 4];
        agent.read_exact(&mut length).ok()?;
        let mut frame = length.to_vec();
        frame.resize(4 + u32::from_be_bytes(length) as usize, 0);
        agent.read_exact(&mut frame[4..]).ok()?;
        let harm = HARMS[usize::from(harm.load(Ordering::SeqCst))];
        if frame.get(4) != Some(&ACK) || harm == Harm::None {
            client.write_all(&frame).ok()?;
            continue;
        }
        struck.fetch_add(1, Ordering::SeqCst);
        match harm {
            Harm::Late => std::thread::sleep(Duration::from_millis(300)),
            Harm::Cut => {
                client.write_all(&frame[..frame.len() / 2]).ok()?;
                let _ = client.shutdown(Shutdown::Both);
                return None;
            }
            Harm::Reset => {
                let _ = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
                // Ends the other direction too, whose end of the socket would keep it open.
                let _ = client.shutdown(Shutdown::Read);
                return None;
            }
            // Type, four bytes of flags, then the stream-id: a varint, below 240 in one byte. Far from any that is open:
            // with the number of one that is, it would be an answer to it, and the wire is believed.
            Harm::Elsewhere => frame[9] = (frame[9] % 200 + 100) % 200,
            Harm::Twice => client.write_all(&frame).ok()?,
            Harm::None => {}
        }
        client.write_all(&frame).ok()?;
    }
}
