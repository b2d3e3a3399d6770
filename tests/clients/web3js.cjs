// @solana/web3.js drives a Solana node: an airdrop, transfers in both kinds of message, a durable nonce, simulation, history, refusals.
// The node's URL is the first argument.
"use strict";
const assert = require("node:assert/strict");
const {
  ComputeBudgetProgram, Connection, Keypair, LAMPORTS_PER_SOL, NONCE_ACCOUNT_LENGTH, NonceAccount, SendTransactionError, SystemProgram,
  Transaction, TransactionMessage, VersionedTransaction,
} = require("@solana/web3.js");

async function main() {
  const connection = new Connection(process.argv[2], "confirmed");
  const [me, you, nonce] = [Keypair.generate(), Keypair.generate(), Keypair.generate()];
  const settle = async (signature) => {
    for (;;) {
      const { value } = await connection.getSignatureStatus(signature);
      if (value && value.confirmationStatus !== "processed") return value;
      await new Promise((resolve) => setTimeout(resolve, 50)); // between looks
    }
  };
  assert.match((await connection.getVersion())["solana-core"], /^\d/);
  await settle(await connection.requestAirdrop(me.publicKey, 10 * LAMPORTS_PER_SOL));
  assert.equal(await connection.getBalance(me.publicKey), 10 * LAMPORTS_PER_SOL);

  // A legacy transaction with a priority fee.
  const pay = (lamports) => SystemProgram.transfer({ fromPubkey: me.publicKey, toPubkey: you.publicKey, lamports });
  const legacy = new Transaction().add(
    ComputeBudgetProgram.setComputeUnitLimit({ units: 1_000 }),
    ComputeBudgetProgram.setComputeUnitPrice({ microLamports: 1_000 }),
    pay(LAMPORTS_PER_SOL),
  );
  const first = await connection.sendTransaction(legacy, [me]);
  assert.equal((await settle(first)).err, null);
  const shown = await connection.getParsedTransaction(first, { maxSupportedTransactionVersion: 0 });
  assert.equal(shown.meta.fee, 5_001);
  assert.equal(shown.transaction.message.instructions[2].parsed.info.lamports, LAMPORTS_PER_SOL);
  assert.ok(shown.meta.logMessages.includes("Program 11111111111111111111111111111111 success"));

  // A version 0 transaction, simulated first.
  const { blockhash } = await connection.getLatestBlockhash();
  const message = new TransactionMessage({ payerKey: me.publicKey, recentBlockhash: blockhash, instructions: [pay(7_000_000)] });
  const versioned = new VersionedTransaction(message.compileToV0Message());
  versioned.sign([me]);
  assert.equal((await connection.getFeeForMessage(versioned.message)).value, 5_000);
  const { value: tried } = await connection.simulateTransaction(versioned);
  assert.deepEqual([tried.err, tried.unitsConsumed], [null, 150]);
  const second = await connection.sendRawTransaction(versioned.serialize());
  assert.equal((await settle(second)).err, null);
  assert.equal((await connection.getTransaction(second, { maxSupportedTransactionVersion: 0 })).version, 0);
  assert.equal(await connection.getBalance(you.publicKey), LAMPORTS_PER_SOL + 7_000_000);

  // A durable nonce.
  const rent = await connection.getMinimumBalanceForRentExemption(NONCE_ACCOUNT_LENGTH);
  const created = await connection.sendTransaction(new Transaction().add(SystemProgram.createNonceAccount({
    fromPubkey: me.publicKey, noncePubkey: nonce.publicKey, authorizedPubkey: me.publicKey, lamports: rent,
  })), [me, nonce]);
  assert.equal((await settle(created)).err, null);
  const stored = NonceAccount.fromAccountData((await connection.getAccountInfo(nonce.publicKey)).data);
  assert.ok(stored.authorizedPubkey.equals(me.publicKey));
  const durable = new Transaction({
    feePayer: me.publicKey,
    nonceInfo: {
      nonce: stored.nonce,
      nonceInstruction: SystemProgram.nonceAdvance({ noncePubkey: nonce.publicKey, authorizedPubkey: me.publicKey }),
    },
  }).add(pay(1));
  durable.sign(me);
  assert.equal((await settle(await connection.sendRawTransaction(durable.serialize()))).err, null);
  assert.notEqual((await connection.getNonce(nonce.publicKey)).nonce, stored.nonce);

  // Refused in the simulation, with the program's logs.
  await assert.rejects(connection.sendTransaction(new Transaction().add(pay(100 * LAMPORTS_PER_SOL)), [me]), (error) => {
    assert.ok(error instanceof SendTransactionError);
    assert.ok(error.logs.some((line) => line.startsWith("Transfer: insufficient lamports")), error.logs);
    return true;
  });
  assert.equal((await connection.getSignatureStatus("1".repeat(64))).value, null);

  // History.
  const history = await connection.getSignaturesForAddress(you.publicKey);
  assert.ok(history.some((entry) => entry.signature === first) && history.some((entry) => entry.signature === second));
  const block = await connection.getBlock(shown.slot, { maxSupportedTransactionVersion: 0 });
  assert.ok(block.transactions.some(({ transaction }) => transaction.signatures[0] === first));
  const { value: parsed } = await connection.getParsedAccountInfo(nonce.publicKey);
  assert.deepEqual([parsed.data.program, parsed.data.parsed.type], ["nonce", "initialized"]);
  assert.equal(parsed.data.parsed.info.authority, me.publicKey.toBase58());
  console.log("@solana/web3.js: done");
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
