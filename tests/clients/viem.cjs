// viem drives an Ethereum node: a contract that solc compiles is deployed, read, written, simulated and listened to; what reverts is
// named. The node's URL is the first argument, its WebSocket the second.
"use strict";
const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const solc = require("solc");
const viem = require("viem");
const { generatePrivateKey, privateKeyToAccount } = require("viem/accounts");

function compile() {
  const source = fs.readFileSync(path.join(__dirname, "Ledger.sol"), "utf8");
  const output = JSON.parse(solc.compile(JSON.stringify({
    language: "Solidity",
    sources: { "Ledger.sol": { content: source } },
    settings: { evmVersion: "prague", outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } } },
  })));
  assert.deepEqual((output.errors ?? []).filter((error) => error.severity === "error"), []);
  const { abi, evm } = output.contracts["Ledger.sol"].Ledger;
  return { abi, bytecode: `0x${evm.bytecode.object}` };
}

async function main() {
  const chain = viem.defineChain({
    id: 31337, name: "simulated", nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
    rpcUrls: { default: { http: [process.argv[2]], webSocket: [process.argv[3]] } },
  });
  const options = { chain, pollingInterval: 50, cacheTime: 0 };
  const node = viem.createPublicClient({ ...options, transport: viem.http() });
  const socket = viem.createPublicClient({ ...options, transport: viem.webSocket() });
  const account = privateKeyToAccount(generatePrivateKey());
  const wallet = viem.createWalletClient({ ...options, account, transport: viem.http() });
  await node.request({ method: "sim_fund", params: [account.address, viem.parseEther("100").toString()] });
  assert.equal(await node.getBalance({ address: account.address }), viem.parseEther("100"));
  assert.equal(await node.getChainId(), 31337);
  const receiptOf = (hash) => node.waitForTransactionReceipt({ hash });

  // A contract: deployed, read, written, and listened to over the socket.
  const { abi, bytecode } = compile();
  const deployed = await receiptOf(await wallet.deployContract({ abi, bytecode, args: ["savings"], value: 5n }));
  assert.equal(deployed.status, "success");
  const ledger = { address: deployed.contractAddress, abi };
  assert.equal(await node.readContract({ ...ledger, functionName: "title" }), "savings");
  assert.equal(await node.readContract({ ...ledger, functionName: "owner" }), account.address);
  const heard = new Promise((resolve, onError) => {
    socket.watchContractEvent({ ...ledger, eventName: "Deposited", onLogs: resolve, onError });
  });
  const heads = new Promise((resolve, onError) => {
    const seen = [];
    socket.watchBlocks({ onError, onBlock: (block) => seen.push(block) === 3 && resolve(seen) });
  });
  const first = await socket.getBlockNumber(); // the socket's subscriptions are under way
  while ((await node.getBlockNumber()) <= first) await new Promise((resolve) => setTimeout(resolve, 50));
  const { request, result } = await node.simulateContract({
    ...ledger, account, functionName: "deposit", args: ["for bread"], value: 7n,
  });
  assert.equal(result, 12n);
  const receipt = await receiptOf(await wallet.writeContract(request));
  assert.equal(receipt.status, "success");
  const [log] = await heard;
  assert.deepEqual([log.args.who, log.args.amount, log.args.note], [account.address, 7n, "for bread"]);
  assert.equal(log.transactionHash, receipt.transactionHash);
  const found = await node.getContractEvents({ ...ledger, eventName: "Deposited", fromBlock: 0n });
  assert.deepEqual(found.map((event) => event.transactionHash), [receipt.transactionHash]);
  const blocks = await heads;
  assert.deepEqual(blocks.map((block) => block.number - blocks[0].number), [0n, 1n, 2n]);
  assert.equal(blocks[2].parentHash, blocks[1].hash);

  // A revert with a reason, and one with an error of the contract's own.
  const refused = (functionName, args, value) => node.simulateContract({ ...ledger, account, functionName, args, value }).then(
    () => assert.fail(`${functionName} goes through`),
    (error) => error.walk((cause) => cause instanceof viem.ContractFunctionRevertedError),
  );
  assert.equal((await refused("deposit", [""], 0n)).reason, "nothing sent");
  const { data } = await refused("withdraw", [100n]);
  assert.deepEqual([data.errorName, data.args], ["Poor", [account.address, 12n, 100n]]);

  // eth_simulateV1: calls in a row, with what they move, on a state of the caller's choice.
  const rich = "0x00000000000000000000000000000000000000aa";
  const to = "0x52908400098527886E0F7030069857D2E4169EE7";
  const [simulated] = await node.simulateBlocks({
    traceTransfers: true,
    blocks: [{
      stateOverrides: [{ address: rich, balance: 50n }],
      calls: [
        { account: rich, to: ledger.address, abi, functionName: "deposit", args: ["a gift"], value: 30n },
        { account: rich, to: ledger.address, abi, functionName: "held", args: [rich] },
        { account: rich, to, value: 20n },
        { account: rich, to: ledger.address, abi, functionName: "withdraw", args: [31n] },
      ],
    }],
  });
  const [gift, held, sent, greedy] = simulated.calls;
  assert.deepEqual([gift.status, gift.result, held.result, sent.status, greedy.status], ["success", 30n, 30n, "success", "failure"]);
  const coin = "0xEeeeeEeeeEeEeeEeEeEeeEEEeeeeEeeeeeeeEEeE";
  const told = [...gift.logs, ...sent.logs].filter(({ address }) => viem.isAddressEqual(address, coin));
  assert.deepEqual([told.map((log) => viem.hexToBigInt(log.data)), greedy.logs], [[30n, 20n], []]);
  assert.equal(simulated.number, (await node.getBlock({ blockHash: simulated.parentHash })).number + 1n);
  assert.equal(await node.getBalance({ address: rich }), 0n);
  const { assetChanges, results } = await node.simulateCalls({
    account: account.address, traceAssetChanges: true, calls: [{ to, value: 3n }],
  });
  assert.equal(results[0].status, "success");
  assert.deepEqual(assetChanges.map(({ value }) => value.diff), [-3n]);

  // Transactions of every type that the chain carries, and what the node refuses.
  for (const type of ["legacy", "eip2930", "eip1559"]) {
    const mined = await receiptOf(await wallet.sendTransaction({ to, value: 1n, type, ...(type === "eip2930" && { accessList: [] }) }));
    assert.deepEqual([mined.type, mined.status], [type, "success"]);
  }
  assert.equal(await node.getBalance({ address: to }), 3n);
  const cause = async (change, kind) => {
    await assert.rejects(wallet.sendTransaction({ to, value: 1n, gas: 21_000n, ...change }), (error) => {
      assert.ok(error.walk((inner) => inner instanceof kind), error);
      return true;
    });
  };
  await cause({ nonce: 0 }, viem.NonceTooLowError);
  await cause({ value: viem.parseEther("1000") }, viem.InsufficientFundsError);
  const fees = await node.estimateFeesPerGas();
  assert.ok(fees.maxFeePerGas > fees.maxPriorityFeePerGas);
  console.log("viem: done");
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
