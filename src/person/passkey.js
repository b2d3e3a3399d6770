// One ceremony of Web Authentication: asks the terminal's program what to do, does it when the button is pressed, and answers.
"use strict";

const toBytes = (text) =>
  Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (letter) => letter.charCodeAt(0));
const toText = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

const element = (id) => document.getElementById(id);
const tell = (text) => { element("told").textContent = text; };

async function perform({ kind, publicKey }) {
  publicKey.challenge = toBytes(publicKey.challenge);
  if (kind === "create") {
    publicKey.user.id = toBytes(publicKey.user.id);
    const { response } = await navigator.credentials.create({ publicKey });
    return { clientDataJSON: toText(response.clientDataJSON), publicKey: toText(response.getPublicKey()) };
  }
  const { response } = await navigator.credentials.get({ publicKey });
  return {
    clientDataJSON: toText(response.clientDataJSON),
    authenticatorData: toText(response.authenticatorData),
    signature: toText(response.signature),
  };
}

async function main() {
  const ask = async () => (await fetch("ceremony")).json();
  const { about } = await ask();
  element("about").textContent = about;
  const button = element("go");
  button.disabled = false;
  button.addEventListener("click", async () => {
    button.disabled = true;
    tell("");
    try {
      const answer = await perform(await ask());
      const taken = await fetch("answer", { method: "POST", body: JSON.stringify(answer) });
      tell(taken.ok ? "Done. Go back to your terminal; this page can be closed." : "This page was answered already.");
    } catch (error) {
      button.disabled = false;
      tell(`Nothing was signed: ${error.message}`);
    }
  });
}

main().catch((error) => tell(`The program in the terminal has ended: ${error.message}`));
