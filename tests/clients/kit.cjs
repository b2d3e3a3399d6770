// @solana/kit drives a Solana node: an airdrop, a transfer, a mint of its own with token accounts, a refusal it can name. The node's
// URL is the first argument.
"use strict";
const assert = require("node:assert/strict");
const kit = require("@solana/kit");
const system = require("@solana-program/system");
const token = require("@solana-program/token");

async function main() {
  const rpc = kit.createSolanaRpc(process.argv[2]);
  const [me, you, mint] = await Promise.all([1, 2, 3].map(() => kit.generateKeyPairSigner()));
  const settle = async (signature) => {
    for (;;) {
      const { value: [status] } = await rpc.getSignatureStatuses([signature]).send();
      if (status && status.confirmationStatus !== "processed") return status;
      await new Promise((resolve) => setTimeout(resolve, 50)); // between looks
    }
  };
  const signed = async (instructions) => {
    const { value: blockhash } = await rpc.getLatestBlockhash({ commitment: "confirmed" }).send();
    return kit.signTransactionMessageWithSigners(kit.pipe(
      kit.createTransactionMessage({ version: 0 }),
      (message) => kit.setTransactionMessageFeePayerSigner(me, message),
      (message) => kit.setTransactionMessageLifetimeUsingBlockhash(blockhash, message),
      (message) => kit.appendTransactionMessageInstructions(instructions, message),
    ));
  };
  const send = async (...instructions) => {
    const transaction = await signed(instructions);
    const wire = kit.getBase64EncodedWireTransaction(transaction);
    const signature = await rpc.sendTransaction(wire, { encoding: "base64", preflightCommitment: "confirmed" }).send();
    assert.equal(signature, kit.getSignatureFromTransaction(transaction));
    assert.equal((await settle(signature)).err, null);
    return signature;
  };

  assert.equal(await rpc.getHealth().send(), "ok");
  await settle(await rpc.requestAirdrop(me.address, kit.lamports(5_000_000_000n)).send());
  await send(system.getTransferSolInstruction({ source: me, destination: you.address, amount: 1_000_000_000n }));
  assert.equal((await rpc.getBalance(you.address, { commitment: "confirmed" }).send()).value, 1_000_000_000n);

  // A mint, an account each, tokens moved between them.
  const space = BigInt(token.getMintSize());
  const rent = await rpc.getMinimumBalanceForRentExemption(space).send();
  const account = async (owner) => (await token.findAssociatedTokenPda({
    owner: owner.address, mint: mint.address, tokenProgram: token.TOKEN_PROGRAM_ADDRESS,
  }))[0];
  const [mine, yours] = [await account(me), await account(you)];
  await send(
    system.getCreateAccountInstruction({ payer: me, newAccount: mint, lamports: rent, space, programAddress: token.TOKEN_PROGRAM_ADDRESS }),
    token.getInitializeMint2Instruction({ mint: mint.address, decimals: 2, mintAuthority: me.address }),
    await token.getCreateAssociatedTokenInstructionAsync({ payer: me, mint: mint.address, owner: me.address }),
    token.getMintToInstruction({ mint: mint.address, token: mine, mintAuthority: me, amount: 500n }),
  );
  const move = (amount) => token.getTransferCheckedInstruction({
    source: mine, mint: mint.address, destination: yours, authority: me, amount, decimals: 2,
  });
  const moved = await send(
    await token.getCreateAssociatedTokenIdempotentInstructionAsync({ payer: me, mint: mint.address, owner: you.address }),
    move(120n),
  );
  const at = { commitment: "confirmed" };
  assert.equal((await token.fetchMint(rpc, mint.address, at)).data.supply, 500n);
  assert.equal((await token.fetchToken(rpc, yours, at)).data.amount, 120n);
  assert.deepEqual((await rpc.getTokenAccountBalance(mine, at).send()).value.uiAmountString, "3.8");
  const { value: held } = await rpc
    .getTokenAccountsByOwner(you.address, { mint: mint.address }, { encoding: "jsonParsed", ...at }).send();
  assert.equal(held[0].account.data.parsed.info.tokenAmount.amount, "120");
  const shown = await rpc
    .getTransaction(moved, { encoding: "jsonParsed", maxSupportedTransactionVersion: 0, ...at }).send();
  assert.deepEqual(shown.meta.postTokenBalances.map((balance) => balance.uiTokenAmount.amount).sort(), ["120", "380"]);

  // A refusal that kit can name: the token program's own error.
  const doomed = await signed([move(10_000n)]);
  const wire = kit.getBase64EncodedWireTransaction(doomed);
  await assert.rejects(rpc.sendTransaction(wire, { encoding: "base64", preflightCommitment: "confirmed" }).send(), (error) => {
    assert.ok(kit.isSolanaError(error, kit.SOLANA_ERROR__JSON_RPC__SERVER_ERROR_SEND_TRANSACTION_PREFLIGHT_FAILURE), error);
    assert.ok(kit.isSolanaError(error.cause, kit.SOLANA_ERROR__INSTRUCTION_ERROR__CUSTOM), error.cause);
    assert.equal(error.cause.context.code, token.TOKEN_ERROR__INSUFFICIENT_FUNDS);
    return true;
  });

  const epoch = await rpc.getEpochInfo().send();
  assert.ok(epoch.absoluteSlot >= epoch.blockHeight && epoch.slotsInEpoch > 0n);
  console.log("@solana/kit: done");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
