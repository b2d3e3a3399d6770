// @solana/kit hears of a Solana node's slots, signatures, accounts and logs over its WebSocket. The node's URL is the first argument, its
// WebSocket's the second.
"use strict";
const assert = require("node:assert/strict");
const kit = require("@solana/kit");
const system = require("@solana-program/system");

async function main() {
  const rpc = kit.createSolanaRpc(process.argv[2]);
  const rpcSubscriptions = kit.createSolanaRpcSubscriptions(process.argv[3]);
  const [me, you] = await Promise.all([kit.generateKeyPairSigner(), kit.generateKeyPairSigner()]);
  const over = new AbortController();
  /** Waits for what a subscription tells. */
  const listen = async (request, abortSignal = over.signal) => {
    const told = (await request.subscribe({ abortSignal }))[Symbol.asyncIterator]();
    let coming = told.next(); // what comes before the first of these is lost
    return async () => {
      const { value, done } = await coming;
      assert.ok(!done, "the subscription has ended");
      coming = told.next();
      return value;
    };
  };

  // Kit's own ways to confirm, all of them by subscriptions.
  await kit.airdropFactory({ rpc, rpcSubscriptions })({
    commitment: "confirmed", recipientAddress: me.address, lamports: kit.lamports(5_000_000_000n),
  });
  const signed = async (amount) => {
    const { value: blockhash } = await rpc.getLatestBlockhash({ commitment: "confirmed" }).send();
    return kit.signTransactionMessageWithSigners(kit.pipe(
      kit.createTransactionMessage({ version: 0 }),
      (message) => kit.setTransactionMessageFeePayerSigner(me, message),
      (message) => kit.setTransactionMessageLifetimeUsingBlockhash(blockhash, message),
      (message) => kit.appendTransactionMessageInstruction(
        system.getTransferSolInstruction({ source: me, destination: you.address, amount }), message,
      ),
    ));
  };
  const sendAndConfirm = kit.sendAndConfirmTransactionFactory({ rpc, rpcSubscriptions });

  const slots = await listen(rpcSubscriptions.slotNotifications());
  const first = await slots();
  assert.ok(first.root <= first.parent && first.parent < first.slot);
  const second = await slots();
  assert.equal(second.parent, first.slot);
  const roots = await listen(rpcSubscriptions.rootNotifications());
  assert.ok((await roots()) < (await roots()));

  const account = await listen(rpcSubscriptions.accountNotifications(you.address, { commitment: "confirmed", encoding: "base64" }));
  const logs = await listen(rpcSubscriptions.logsNotifications({ mentions: [you.address] }, { commitment: "confirmed" }));
  const transaction = await signed(1_000_000_000n);
  const signature = kit.getSignatureFromTransaction(transaction);
  const received = await listen(rpcSubscriptions.signatureNotifications(signature, {
    commitment: "confirmed", enableReceivedNotification: true,
  }));
  await sendAndConfirm(transaction, { commitment: "confirmed" });
  const { value: [status] } = await rpc.getSignatureStatuses([signature]).send();
  assert.notEqual(status.confirmationStatus, "processed");
  assert.equal((await received()).value, "receivedSignature");
  assert.equal((await received()).value.err, null);
  const shown = await account();
  assert.ok(shown.context.slot >= status.slot);
  assert.deepEqual([shown.value.lamports, shown.value.data], [1_000_000_000n, ["", "base64"]]);
  const told = await logs();
  assert.deepEqual([told.context.slot, told.value.signature, told.value.err], [status.slot, signature, null]);
  assert.ok(told.value.logs.includes("Program 11111111111111111111111111111111 success"));

  // A durable nonce: confirmed by the signature's subscription, watched by the account's.
  const nonce = await kit.generateKeyPairSigner();
  const space = BigInt(system.getNonceSize());
  const rent = await rpc.getMinimumBalanceForRentExemption(space).send();
  const { value: blockhash } = await rpc.getLatestBlockhash({ commitment: "confirmed" }).send();
  await sendAndConfirm(await kit.signTransactionMessageWithSigners(kit.pipe(
    kit.createTransactionMessage({ version: 0 }),
    (message) => kit.setTransactionMessageFeePayerSigner(me, message),
    (message) => kit.setTransactionMessageLifetimeUsingBlockhash(blockhash, message),
    (message) => kit.appendTransactionMessageInstructions([
      system.getCreateAccountInstruction({
        payer: me, newAccount: nonce, lamports: rent, space, programAddress: system.SYSTEM_PROGRAM_ADDRESS,
      }),
      system.getInitializeNonceAccountInstruction({ nonceAccount: nonce.address, nonceAuthority: me.address }),
    ], message),
  )), { commitment: "confirmed" });
  const stored = async () => (await system.fetchNonce(rpc, nonce.address, { commitment: "confirmed" })).data.blockhash;
  const value = await stored();
  await kit.sendAndConfirmDurableNonceTransactionFactory({ rpc, rpcSubscriptions })(
    await kit.signTransactionMessageWithSigners(kit.pipe(
      kit.createTransactionMessage({ version: 0 }),
      (message) => kit.setTransactionMessageFeePayerSigner(me, message),
      (message) => kit.setTransactionMessageLifetimeUsingDurableNonce({
        nonce: value, nonceAccountAddress: nonce.address, nonceAuthorityAddress: me.address,
      }, message),
      (message) => kit.appendTransactionMessageInstruction(
        system.getTransferSolInstruction({ source: me, destination: you.address, amount: 7n }), message,
      ),
    )),
    { commitment: "confirmed" },
  );
  assert.notEqual(await stored(), value);
  assert.equal((await account()).value.lamports, 1_000_000_007n);

  // Who listens no longer is told no more: the iterator ends.
  const alone = new AbortController();
  const ended = (await rpcSubscriptions.slotNotifications().subscribe({ abortSignal: alone.signal }))[Symbol.asyncIterator]();
  assert.ok(!(await ended.next()).done);
  alone.abort();
  while (!(await ended.next()).done); // what came before the end
  over.abort();
  console.log("@solana/kit: done");
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
