// ethers' WebSocketProvider hears of an Ethereum node's heads, pending transactions and logs, and of logs that a reorganisation takes
// back. The node's WebSocket is the first argument, the demo token the second.
"use strict";
const assert = require("node:assert/strict");
const { ethers } = require("ethers");

/** What a listener hears, one thing after the other. */
function hearing() {
  const [heard, waiting] = [[], []];
  const listener = (told) => { waiting.length > 0 ? waiting.shift()(told) : heard.push(told); };
  const next = () => (heard.length > 0 ? Promise.resolve(heard.shift()) : new Promise((resolve) => waiting.push(resolve)));
  return { listener, next, heard };
}

async function main() {
  const provider = new ethers.WebSocketProvider(process.argv[2], undefined, { cacheTimeout: -1 });
  const wallet = ethers.Wallet.createRandom(provider);
  const mine = () => provider.send("sim_mine", [1]);
  await provider.send("sim_fund", [wallet.address, ethers.parseEther("100").toString()]);
  assert.equal(await provider.getBalance(wallet.address), ethers.parseEther("100"));
  const token = new ethers.Contract(process.argv[3], [
    "function transfer(address to, uint256 value) returns (bool)",
    "event Transfer(address indexed from, address indexed to, uint256 value)",
  ], wallet);
  const to = "0x52908400098527886E0F7030069857D2E4169EE7";

  const [heads, pending, logs, transfers, dropped] = [hearing(), hearing(), hearing(), hearing(), hearing()];
  await provider.on("block", heads.listener);
  await provider.on("pending", pending.listener);
  const arriving = { address: token.target, topics: [ethers.id("Transfer(address,address,uint256)"), null, ethers.zeroPadValue(to, 32)] };
  await provider.on(arriving, logs.listener);
  const leaving = token.filters.Transfer(wallet.address);
  await token.on(leaving, ({ args, log }) => transfers.listener([...args, log.blockNumber]));
  await provider.send("sim_fund", [wallet.address, "1000", token.target]);
  const before = await provider.getBlockNumber();
  while ((await heads.next()) < before); // up to the token's block

  // A payment is heard of when it is waiting, and its block when that is made.
  const sent = await wallet.sendTransaction({ to, value: 3n });
  let hash;
  do { hash = await pending.next(); } while (hash !== sent.hash);
  assert.equal((await provider.getTransaction(hash)).blockNumber, null);
  const receipt = sent.wait();
  await mine();
  assert.equal(await heads.next(), before + 1);
  assert.equal((await receipt).blockNumber, before + 1);
  assert.equal((await receipt).status, 1);

  // A token's transfer: to who listens for the receiver, and to who listens for the sender, decoded.
  const moved = await token.transfer(to, 250n);
  await mine();
  const log = await logs.next();
  assert.deepEqual([log.transactionHash, log.address, log.removed, BigInt(log.data)], [moved.hash, token.target, false, 250n]);
  assert.deepEqual(await transfers.next(), [wallet.address, to, 250n, before + 2]);
  assert.equal(await heads.next(), before + 2);

  // A reorganisation takes the log back and puts others' heads in place of its block; the transfer comes again.
  await provider.on({ orphan: "drop-log", log: new ethers.Log({ ...log.toJSON(), removed: true }, provider) }, dropped.listener);
  const branch = await provider.send("sim_reorg", { depth: 1 });
  assert.equal(branch.length, 2);
  assert.equal(await heads.next(), before + 2);
  assert.equal(await heads.next(), before + 3);
  await dropped.next();
  await mine();
  assert.equal(await heads.next(), before + 4);
  const again = await logs.next();
  assert.deepEqual([again.transactionHash, again.removed, again.blockNumber], [moved.hash, false, before + 4]);

  // Who listens no longer is told no more.
  await provider.off("pending");
  await provider.off(arriving);
  assert.ok(pending.heard.includes(moved.hash));
  pending.heard.length = 0;
  const last = await token.transfer(to, 1n);
  await mine();
  assert.equal((await last.wait()).status, 1);
  assert.equal(await heads.next(), before + 5);
  assert.deepEqual([pending.heard, logs.heard], [[], []]);
  await provider.destroy();
  console.log("ethers: done");
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
