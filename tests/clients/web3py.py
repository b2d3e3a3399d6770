"""web3.py drives an Ethereum node: money, the deployment of a contract, calls, events, refusals. The node's URL is the first argument,
the runtime code of the demo token is the file that the second names."""

import json
import sys
from pathlib import Path

from eth_account import Account
from web3 import Web3
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3RPCError
from web3.middleware import SignAndSendRawMiddlewareBuilder

ABI = json.loads("""[
    {"type": "function", "name": "mint", "stateMutability": "nonpayable", "outputs": [{"type": "bool", "name": ""}],
     "inputs": [{"type": "address", "name": "to"}, {"type": "uint256", "name": "value"}]},
    {"type": "function", "name": "transfer", "stateMutability": "nonpayable", "outputs": [{"type": "bool", "name": ""}],
     "inputs": [{"type": "address", "name": "to"}, {"type": "uint256", "name": "value"}]},
    {"type": "function", "name": "balanceOf", "stateMutability": "view", "outputs": [{"type": "uint256", "name": ""}],
     "inputs": [{"type": "address", "name": "owner"}]},
    {"type": "event", "name": "Transfer", "anonymous": false, "inputs": [{"type": "address", "name": "from", "indexed": true},
     {"type": "address", "name": "to", "indexed": true}, {"type": "uint256", "name": "value", "indexed": false}]}
]""")


def refused(call, part, error=Web3RPCError):
    """The call is refused with `part` in the message."""
    try:
        call()
    except error as refusal:
        assert part in str(refusal), refusal
        return
    raise AssertionError(f"{part!r} was expected")


def main():
    w3 = Web3(Web3.HTTPProvider(sys.argv[1]))
    assert w3.is_connected() and w3.eth.chain_id == 31337 and w3.eth.syncing is False
    me, you = Account.create(), Account.create()
    w3.provider.make_request("sim_fund", [me.address, str(10**18)])
    assert w3.eth.get_balance(me.address) == 10**18
    w3.middleware_onion.inject(SignAndSendRawMiddlewareBuilder.build(me), layer=0)
    w3.eth.default_account = me.address

    # Money, in a transaction that web3.py fills in by itself.
    sent = w3.eth.send_transaction({"to": you.address, "value": 12345})
    receipt = w3.eth.wait_for_transaction_receipt(sent, poll_latency=0.05)
    assert receipt["status"] == 1 and receipt["gasUsed"] == 21000
    assert w3.eth.get_balance(you.address) == 12345
    assert w3.eth.get_transaction(sent)["blockNumber"] == receipt["blockNumber"]
    block = w3.eth.get_block(receipt["blockNumber"], full_transactions=True)
    assert block["transactions"][0]["hash"] == sent and block["hash"] == receipt["blockHash"]

    # A contract. The constructor only returns the runtime code: PUSH2 length, DUP1, PUSH1 10, RETURNDATASIZE, CODECOPY,
    # RETURNDATASIZE, RETURN.
    runtime = bytes.fromhex(Path(sys.argv[2]).read_text().strip())
    code = b"\x61" + len(runtime).to_bytes(2, "big") + bytes.fromhex("80600a3d393df3") + runtime
    deployment = w3.eth.contract(abi=ABI, bytecode=code).constructor().transact()
    address = w3.eth.wait_for_transaction_receipt(deployment, poll_latency=0.05)["contractAddress"]
    assert bytes(w3.eth.get_code(address)) == runtime
    token = w3.eth.contract(address=address, abi=ABI)
    arrivals = token.events.Transfer.create_filter(from_block="latest")
    for call in [token.functions.mint(me.address, 1000), token.functions.transfer(you.address, 400)]:
        receipt = w3.eth.wait_for_transaction_receipt(call.transact(), poll_latency=0.05)
        assert receipt["status"] == 1
    assert token.functions.balanceOf(you.address).call() == 400
    assert [event["args"]["value"] for event in arrivals.get_new_entries()] == [1000, 400]
    assert [event["args"]["value"] for event in token.events.Transfer().process_receipt(receipt)] == [400]
    found = token.events.Transfer.get_logs(from_block=0, argument_filters={"to": you.address})
    assert [event["args"]["value"] for event in found] == [400]
    refused(lambda: token.functions.transfer(you.address, 10**6).call(), "exceeds balance", ContractLogicError)

    # Fees, and what the node refuses.
    history = w3.eth.fee_history(4, "latest", [25, 75])
    assert len(history["baseFeePerGas"]) == len(history["reward"]) + 1
    assert w3.eth.gas_price > 0 and w3.eth.max_priority_fee > 0
    basic = {"to": you.address, "value": 1, "gas": 21000, "gasPrice": w3.eth.gas_price, "chainId": 31337}
    send = lambda change: w3.eth.send_raw_transaction(me.sign_transaction({**basic, **change}).raw_transaction)
    nonce = w3.eth.get_transaction_count(me.address, "pending")
    refused(lambda: send({"nonce": 0}), "nonce too low")
    refused(lambda: send({"nonce": nonce, "value": 10**19}), "insufficient funds")
    refused(lambda: w3.eth.get_transaction(b"\x01" * 32), "not found", TransactionNotFound)
    send({"nonce": nonce + 1})
    refused(lambda: send({"nonce": nonce + 1, "value": 2}), "replacement transaction underpriced")

    with w3.batch_requests() as batch:
        batch.add(w3.eth.get_block("latest"))
        batch.add(w3.eth.get_balance(you.address))
        assert batch.execute()[1] == 12345
    print("web3.py: done")


main()
