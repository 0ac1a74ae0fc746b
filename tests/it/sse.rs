//! The HTTP+SSE transport of 2024-11-05.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::BufReader,
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{
    http::Running,
    wire::{Ask, SOON, TestResult, call, initialize, line_with, ping},
};

/// A client of the transport of 2024-11-05.
pub(crate) struct OldClient {
    stream: BufReader<TcpStream>,
    path: String,
    server: SocketAddr,
}

impl OldClient {
    pub(crate) async fn open(server: SocketAddr) -> Result<Self, Box<dyn std::error::Error>> {
        let mut stream = Ask::get("/sse").open(server).await?;
        assert_eq!(line_with(&mut stream, "event:").await?, "endpoint");
        let path = line_with(&mut stream, "data:").await?;
        let mut client = Self { stream, path, server };
        client.send(&initialize(0)).await?;
        assert_eq!(client.answer().await?["id"], 0);
        Ok(client)
    }

    async fn send(&self, message: &Value) -> TestResult {
        let reply = Ask::post(&self.path, message).send(self.server).await?;
        assert_eq!(reply.status, 202, "{reply:?}");
        Ok(())
    }

    async fn answer(&mut self) -> Result<Value, Box<dyn std::error::Error>> {
        Ok(serde_json::from_str(&line_with(&mut self.stream, "data:").await?)?)
    }
}

#[tokio::test]
async fn ping_behind_a_slow_call_of_one_sse_stream_is_answered_at_once() -> TestResult {
    let server = Running::new(&[]).await?;
    let mut client = OldClient::open(server.address).await?;
    client.send(&call(1, "sleep", json!({"ms": 1000}))).await?;
    client.send(&ping(2)).await?;
    assert_eq!(client.answer().await?["id"], 2);
    client.send(&call(3, "panic", json!({}))).await?;
    let panicked = client.answer().await?;
    assert_eq!((&panicked["id"], &panicked["error"]["code"]), (&json!(3), &json!(-32603)));
    assert_eq!(client.answer().await?["id"], 1);
    let garbage = Ask::post(&client.path, &Value::Null).body("{").send(server.address).await?;
    assert_eq!((garbage.status, garbage.json()?["error"]["code"].clone()), (400, json!(-32700)));
    Ok(())
}

#[tokio::test]
async fn a_closed_sse_stream_ends_its_connection_but_not_its_calls() -> TestResult {
    let server = Running::new(&[]).await?;
    let client = OldClient::open(server.address).await?;
    client.send(&call(1, "sleep", json!({"ms": 500}))).await?;
    server.tools.seen.wait_for("begun").await?;
    let path = client.path.clone();
    drop(client);
    server.tools.seen.wait_for("slept").await?;
    let gone = async {
        while Ask::post(&path, &ping(2)).send(server.address).await?.status != 404 {
            sleep(Duration::from_millis(10)).await;
        }
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    timeout(SOON, gone).await.map_err(|_| "the connection did not end")??;
    Ok(())
}

#[tokio::test]
async fn the_end_of_one_sse_stream_leaves_all_others_alone() -> TestResult {
    let server = Running::new(&[]).await?;
    let mut staying = OldClient::open(server.address).await?;
    // The end of a connection comes after that of its stream, and the next one would meet what it left behind.
    for n in 1..=10 {
        let leaving = OldClient::open(server.address).await?;
        let path = leaving.path.clone();
        drop(leaving);
        let gone = async {
            while Ask::post(&path, &ping(n)).send(server.address).await?.status != 404 {
                sleep(Duration::from_millis(10)).await;
            }
            Ok::<_, Box<dyn std::error::Error>>(())
        };
        timeout(SOON, gone).await.map_err(|_| "the connection did not end")??;
        staying.send(&ping(n)).await?;
        assert_eq!(timeout(SOON, staying.answer()).await??["id"], n);
    }
    let reply = Ask::post("/mcp", &initialize(0)).send(server.address).await?;
    assert_eq!(reply.json()?["id"], 0);
    Ok(())
}
