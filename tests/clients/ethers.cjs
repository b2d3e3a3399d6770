// ethers drives an Ethereum node: a contract that solc compiles is deployed, called, paid, and reverts; transactions of every
// type are sent, waited for and refused. The node's URL is the first argument.
"use strict";
const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const { ethers } = require("ethers");
const solc = require("solc");

function compile() {
  const source = fs.readFileSync(path.join(__dirname, "Ledger.sol"), "utf8");
  const output = JSON.parse(solc.compile(JSON.stringify({
    language: "Solidity",
    sources: { "Ledger.sol": { content: source } },
    settings: { evmVersion: "prague", outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } } },
  })));
  assert.deepEqual((output.errors ?? []).filter((error) => error.severity === "error"), []);
  return output.contracts["Ledger.sol"].Ledger;
}

async function main() {
  const provider = new ethers.JsonRpcProvider(process.argv[2], undefined, { pollingInterval: 50, cacheTimeout: -1 });
  const wallet = new ethers.Wallet(ethers.id("an ethers wallet"), provider);
  await provider.send("sim_fund", [wallet.address, ethers.parseEther("100").toString()]);
  assert.equal(await provider.getBalance(wallet.address), ethers.parseEther("100"));

  // A contract: deployed, read, written, and refused with a reason and with a custom error.
  const { abi, evm } = compile();
  const deployed = await new ethers.ContractFactory(abi, evm.bytecode.object, wallet).deploy("savings", { value: 5n });
  await deployed.waitForDeployment();
  const ledger = new ethers.Contract(await deployed.getAddress(), abi, wallet);
  assert.equal(await ledger.title(), "savings");
  assert.equal(await ledger.owner(), wallet.address);
  assert.equal(await ledger.deposit.staticCall("a try", { value: 7n }), 12n);
  const heard = new Promise((resolve) => ledger.once("Deposited", (who, amount, note) => resolve([who, amount, note])));
  const receipt = await (await ledger.deposit("for bread", { value: 7n })).wait();
  assert.equal(receipt.status, 1);
  assert.equal(receipt.logs[0].fragment.name, "Deposited");
  assert.deepEqual(await heard, [wallet.address, 7n, "for bread"]);
  assert.equal(await ledger.held(wallet.address), 12n);
  const found = await ledger.queryFilter(ledger.filters.Deposited(wallet.address), 0, "latest");
  assert.deepEqual(found.map((event) => [event.args.amount, event.transactionHash]), [[7n, receipt.hash]]);
  await assert.rejects(ledger.deposit.staticCall("", { value: 0n }), (error) => error.reason === "nothing sent");
  await assert.rejects(ledger.withdraw.estimateGas(100n), (error) => {
    assert.equal(error.code, "CALL_EXCEPTION");
    const { name, args } = ledger.interface.parseError(error.data);
    assert.deepEqual([name, [...args]], ["Poor", [wallet.address, 12n, 100n]]);
    return true;
  });
  await assert.rejects(ledger.withdraw.staticCall(100n), (error) => error.revert.name === "Poor");
  const doomed = await ledger.withdraw(100n, { gasLimit: 100_000n });
  await assert.rejects(doomed.wait(), (error) => error.code === "CALL_EXCEPTION" && error.receipt.status === 0);
  assert.equal((await (await ledger.withdraw(12n)).wait()).status, 1);
  assert.equal(await provider.getBalance(ledger.target), 0n);

  // Transactions of every type that the chain carries.
  const to = "0x52908400098527886E0F7030069857D2E4169EE7";
  for (const type of [0, 1, 2]) {
    const sent = await wallet.sendTransaction({ to, value: 1n, type });
    const mined = await sent.wait();
    const shown = await provider.getTransaction(sent.hash);
    assert.deepEqual([mined.type, shown.type, shown.blockHash], [type, type, mined.blockHash]);
    assert.equal(mined.fee, mined.gasUsed * mined.gasPrice);
  }
  assert.equal(await provider.getBalance(to), 3n);

  // What the node refuses, ethers tells apart.
  const { chainId } = await provider.getNetwork();
  const fees = await provider.getFeeData();
  assert.ok(fees.maxFeePerGas > fees.maxPriorityFeePerGas && fees.gasPrice > 0n);
  const basic = { to, value: 1n, gasLimit: 21_000n, chainId, type: 2, maxFeePerGas: fees.maxFeePerGas,
    maxPriorityFeePerGas: fees.maxPriorityFeePerGas };
  const refused = async (change, code) => {
    const signed = await wallet.signTransaction({ ...basic, nonce: await wallet.getNonce("pending"), ...change });
    await assert.rejects(provider.broadcastTransaction(signed), (error) => {
      assert.equal(error.code, code);
      return true;
    });
  };
  await refused({ nonce: 0 }, "NONCE_EXPIRED");
  await refused({ value: ethers.parseEther("1000") }, "INSUFFICIENT_FUNDS");
  // Beyond a gap it waits, and can be replaced only by one that pays more.
  const later = (await wallet.getNonce("pending")) + 1;
  await provider.broadcastTransaction(await wallet.signTransaction({ ...basic, nonce: later }));
  await refused({ nonce: later, value: 2n }, "REPLACEMENT_UNDERPRICED");

  // Blocks by tag and with their transactions, as they come.
  const block = await provider.getBlock(receipt.blockNumber, true);
  assert.equal(block.prefetchedTransactions[0].hash, receipt.hash);
  const [finalized, safe, latest] = await Promise.all(["finalized", "safe", "latest"].map((tag) => provider.getBlock(tag)));
  assert.ok(finalized.number <= safe.number && safe.number <= latest.number);
  await new Promise((resolve) => provider.once("block", resolve));
  provider.destroy();
  console.log("ethers: done");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
