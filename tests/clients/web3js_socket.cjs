// @solana/web3.js hears of a Solana node's slots, signatures, accounts and logs over its WebSocket. The node's URL is the first argument,
// its WebSocket's the second.
"use strict";
const assert = require("node:assert/strict");
const bs58 = require("bs58");
const { Connection, Keypair, LAMPORTS_PER_SOL, SystemProgram, Transaction } = require("@solana/web3.js");

/** What a listener hears, one thing after the other. */
function hearing() {
  const [heard, waiting] = [[], []];
  const listener = (...told) => (waiting.length > 0 ? waiting.shift()(told) : heard.push(told));
  const next = () => (heard.length > 0 ? Promise.resolve(heard.shift()) : new Promise((resolve) => waiting.push(resolve)));
  return { listener, next, heard };
}

async function main() {
  const connection = new Connection(process.argv[2], { commitment: "confirmed", wsEndpoint: process.argv[3] });
  const [me, you] = [Keypair.generate(), Keypair.generate()];

  // Confirmed as web3.js does it by itself: by a subscription to the signature.
  const airdrop = await connection.requestAirdrop(me.publicKey, 10 * LAMPORTS_PER_SOL);
  const latest = await connection.getLatestBlockhash();
  assert.equal((await connection.confirmTransaction({ signature: airdrop, ...latest })).value.err, null);
  assert.equal(await connection.getBalance(me.publicKey), 10 * LAMPORTS_PER_SOL);

  const slots = hearing();
  const slotId = connection.onSlotChange(slots.listener);
  const [{ slot, parent, root }] = await slots.next();
  assert.ok(root <= parent && parent < slot, `${root} ${parent} ${slot}`);
  const [later] = await slots.next();
  assert.ok(later.slot > slot && later.parent === slot);
  await connection.removeSlotChangeListener(slotId);
  /** Hears two roots, so that all subscriptions before it are in force. */
  const settle = async () => {
    const roots = hearing();
    const rootId = connection.onRootChange(roots.listener);
    const [first] = await roots.next();
    assert.ok((await roots.next())[0] > first);
    await connection.removeRootChangeListener(rootId);
  };

  // A transfer is told to all who listen for it.
  const [account, logs, all] = [hearing(), hearing(), hearing()];
  const accountId = connection.onAccountChange(you.publicKey, account.listener, { commitment: "confirmed" });
  const logsId = connection.onLogs(you.publicKey, logs.listener, "confirmed");
  const allId = connection.onLogs("all", all.listener, "processed");
  await settle();
  const pay = (lamports) => new Transaction().add(
    SystemProgram.transfer({ fromPubkey: me.publicKey, toPubkey: you.publicKey, lamports }),
  );
  const paid = await connection.sendTransaction(pay(LAMPORTS_PER_SOL), [me]);
  const [{ lamports, owner, executable, data }, { slot: shownIn }] = await account.next();
  assert.deepEqual([lamports, owner, executable, data.length], [LAMPORTS_PER_SOL, SystemProgram.programId, false, 0]);
  const [told, context] = await logs.next();
  assert.deepEqual([told.signature, told.err], [paid, null]);
  assert.ok(told.logs.includes("Program 11111111111111111111111111111111 success"));
  const status = (await connection.getSignatureStatus(paid)).value;
  assert.equal(context.slot, status.slot);
  assert.ok(shownIn >= status.slot);
  assert.equal((await all.next())[0].signature, paid);

  // The receipt, after which web3.js ends that subscription by itself, and each level of commitment.
  const [received, confirmed, finalized] = [hearing(), hearing(), hearing()];
  const second = pay(2 * LAMPORTS_PER_SOL);
  Object.assign(second, { feePayer: me.publicKey, recentBlockhash: (await connection.getLatestBlockhash()).blockhash });
  second.sign(me);
  const signature = bs58.encode(second.signature);
  connection.onSignatureWithOptions(signature, received.listener, { commitment: "confirmed", enableReceivedNotification: true });
  connection.onSignature(signature, confirmed.listener, "confirmed");
  connection.onSignature(signature, finalized.listener, "finalized");
  await settle();
  assert.equal(await connection.sendRawTransaction(second.serialize()), signature);
  assert.deepEqual((await received.next())[0], { type: "received" });
  assert.equal((await confirmed.next())[0].err, null);
  assert.equal((await finalized.next())[0].err, null);
  assert.equal((await connection.getSignatureStatus(signature)).value.confirmationStatus, "finalized");
  assert.equal((await account.next())[0].lamports, 3 * LAMPORTS_PER_SOL);

  // A failure that the node was made to take is told with its error.
  assert.equal((await logs.next())[0].signature, signature);
  const failed = await connection.sendTransaction(pay(100 * LAMPORTS_PER_SOL), [me], { skipPreflight: true });
  const [{ signature: named, err }] = await logs.next();
  assert.deepEqual([named, err], [failed, { InstructionError: [0, { Custom: 1 }] }]);
  assert.deepEqual((await connection.getSignatureStatus(failed)).value.err, err);

  // Who listens no longer is told no more.
  await connection.removeAccountChangeListener(accountId);
  await Promise.all([logsId, allId].map((id) => connection.removeOnLogsListener(id)));
  const silent = account.heard.length;
  const last = await connection.sendTransaction(pay(LAMPORTS_PER_SOL), [me]);
  const { value } = await connection.confirmTransaction({ signature: last, ...(await connection.getLatestBlockhash()) });
  assert.equal(value.err, null);
  assert.equal(account.heard.length, silent);
  console.log("@solana/web3.js: done");
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
