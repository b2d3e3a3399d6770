//! A signer's process whose shares are sealed by a token, beside two with key files. `tests/run` makes the token in SoftHSM2
//! and names it; it is a folder that can be moved away, which is as if the token were pulled.

use std::fs;
use std::path::PathBuf;

use ed25519_dalek::SigningKey;
use signer::pool::{KeySpec, SchemeId};

use crate::crew::Crew;
use crate::process::portcullis;
use crate::site::{NAMES, Site, id, wallet};

/// The token's label.
const TOKEN: &str = "apart";
const PIN: &str = "a PIN for tests";

fn setting(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set; run tests/run")))
}

/// The token's folder, at home and away.
fn folder() -> (PathBuf, PathBuf) {
    let tokens = setting("SOFTHSM2_CONF").with_file_name("tokens");
    let padded = format!("{TOKEN:32}");
    let holds = |folder: &PathBuf| {
        let token = fs::read(folder.join("token.object")).unwrap_or_default();
        token.windows(32).any(|window| window == padded.as_bytes())
    };
    let home = fs::read_dir(&tokens).unwrap().map(|entry| entry.unwrap().path()).find(holds);
    let home = home.unwrap_or_else(|| panic!("there is no token {TOKEN}; run tests/run"));
    (home, tokens.with_file_name(format!("away-{TOKEN}")))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SoftHSM2; tests/run installs and names it"]
async fn a_signer_sealed_by_softhsm_signs_and_without_its_token_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let pin = dir.path().join("pin");
    fs::write(&pin, PIN).unwrap();
    let seal = format!(
        "[seal]\nkind = \"pkcs11\"\nmodule = {:?}\ntoken = \"{TOKEN}\"\npin_file = {pin:?}\nkey = \"portcullis\"\n\
         create_key = true\n",
        setting("PORTCULLIS_SOFTHSM")
    );
    let client = SigningKey::from_bytes(&[42; 32]);
    let mut crew = Crew::gather(Site::prepare_with_seal(&client, seal), client).await;
    let [_, _, third] = NAMES;
    assert!(!crew.site.path(third).join("seal.key").exists(), "no key file seals it");
    crew.make(&[KeySpec { key: wallet().key, scheme: SchemeId::Ed25519 }], &[wallet()]).await;
    signs_with(&mut crew, true).await;

    // The token is pulled while the signer runs.
    let (home, away) = folder();
    fs::rename(&home, &away).unwrap();
    signs_with(&mut crew, false).await;
    let status = crew.status(third).await;
    let problem = status.problem.unwrap_or_default();
    assert!(!status.up && problem.contains(&format!("token {TOKEN} is in no slot")), "{problem}");
    for name in &NAMES[..2] {
        assert!(crew.status(name).await.up);
    }
    // It is put in again, which the module notices once a second.
    fs::rename(&away, &home).unwrap();
    crew.all_up().await;
    signs_with(&mut crew, true).await;

    // With a wrong PIN the signer says so and doesn't start; a refresh gets along with what it then says of itself.
    crew.killer(&[third])();
    fs::write(&pin, "a wrong PIN").unwrap();
    let config = crew.site.path(&format!("{third}.toml"));
    let refused = portcullis().arg("signer").arg("--config").arg(&config).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("PIN") && said.contains(TOKEN), "{said}");
    assert!(!said.contains("a wrong PIN") && !said.contains(PIN), "a PIN is never printed: {said}");
    signs_with(&mut crew, false).await;
    fs::write(&pin, PIN).unwrap();
    crew.revive().await;
    signs_with(&mut crew, true).await;
    let rekeyed = crew.pool.refresh(&wallet().key, |_| ()).await.unwrap();
    assert_eq!((rekeyed.epoch, rekeyed.holders.len(), rekeyed.unerased.len()), (2, 3, 0));
    signs_with(&mut crew, true).await;
}

/// Payments are signed: without the first signer, so that the third is needed; or several at once and without the third,
/// which is tried where the others are busy.
async fn signs_with(crew: &mut Crew, third_there: bool) {
    let [first, _, third] = NAMES;
    if third_there {
        crew.killer(&[first])();
        let outcome = crew.sign(&wallet()).await;
        assert!(outcome.participants.contains(&id(third)), "{outcome:?}");
        crew.revive().await;
    } else {
        for outcome in crew.sign_at_once(&wallet(), 6).await {
            assert!(!outcome.participants.contains(&id(third)), "{outcome:?}");
        }
    }
}
