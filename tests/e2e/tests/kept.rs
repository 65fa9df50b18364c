//! What earlier versions wrote is read, byte for byte, and written on.

use anyhow::ensure;
use floeberg_test_e2e::connect::Clients;
use floeberg_test_e2e::kept::Kept;
use floeberg_test_e2e::lake::{go_on, look};
use floeberg_test_e2e::process::{Home, binary};
use tokio::process::Command;

/// The node starts, has everything, takes more, and has that at its next start.
async fn goes_on(home: &mut Home, kept: &Kept) -> anyhow::Result<()> {
    let node = home.start().await?;
    let clients = Clients::connect(&node.endpoints).await?;
    let lake = look(&clients).await?;
    ensure!(lake.lines() == kept.lines()?, "{kept:?} holds another lake");
    go_on(&clients, &lake).await?;
    let after = look(&clients).await?;
    node.kill().await?;
    let node = home.start().await?;
    let clients = Clients::connect(&node.endpoints).await?;
    ensure!(look(&clients).await? == after, "{kept:?} forgot a change");
    node.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn data_directories_of_earlier_versions_are_opened() -> anyhow::Result<()> {
    for kept in Kept::all()? {
        let dir = tempfile::tempdir()?;
        kept.unpack(dir.path())?;
        let mut home = Home::new(&binary()?, &dir.path().join("home"))?;
        goes_on(&mut home, &kept).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_of_earlier_versions_are_restored() -> anyhow::Result<()> {
    for kept in Kept::all()? {
        let dir = tempfile::tempdir()?;
        kept.unpack(dir.path())?;
        let mut home = Home::new(&binary()?, &dir.path().join("new"))?;
        let restored = Command::new(binary()?)
            .args(["backup", "restore", "--segment-bytes", "67108864", "--at"])
            .arg(dir.path().join("backup"))
            .arg("--data-dir")
            .arg(home.data_dir())
            .env_remove("FLOEBERG_CONFIG")
            .output()
            .await?;
        let said = String::from_utf8_lossy(&restored.stderr);
        ensure!(restored.status.success(), "{said}");
        goes_on(&mut home, &kept).await?;
    }
    Ok(())
}
