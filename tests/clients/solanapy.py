"""solana-py and solders drive a Solana node: an airdrop, a transfer, the demo mint's token accounts, history, refusals. The node's URL is
the first argument, the demo mint the second."""

import asyncio
import json
import sys
import urllib.request

from solana.exceptions import SolanaRpcException
from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed
from solana.rpc.core import RPCException
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction
from solders.transaction_status import TransactionConfirmationStatus
from spl.token.constants import TOKEN_PROGRAM_ID
from spl.token.instructions import create_idempotent_associated_token_account, get_associated_token_address, transfer_checked
from spl.token.models import TransferCheckedParams

SOL = 1_000_000_000


def simulator(method, params):
    """Asks for what only a simulated node does."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(sys.argv[1], body, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["result"]


async def main():
    async with AsyncClient(sys.argv[1], commitment=Confirmed) as client:
        mint, me, you = Pubkey.from_string(sys.argv[2]), Keypair(), Keypair()
        assert await client.is_connected()
        airdrop = (await client.request_airdrop(me.pubkey(), 3 * SOL)).value
        await client.confirm_transaction(airdrop, sleep_seconds=0.05)
        assert (await client.get_balance(me.pubkey())).value == 3 * SOL

        async def send(*instructions):
            blockhash = (await client.get_latest_blockhash()).value.blockhash
            message = MessageV0.try_compile(me.pubkey(), list(instructions), [], blockhash)
            assert (await client.get_fee_for_message(message)).value == 5000
            signature = (await client.send_transaction(VersionedTransaction(message, [me]))).value
            status = (await client.confirm_transaction(signature, sleep_seconds=0.05)).value[0]
            assert status.err is None and status.confirmation_status != TransactionConfirmationStatus.Processed
            return signature

        def pay(lamports):
            return transfer(TransferParams(from_pubkey=me.pubkey(), to_pubkey=you.pubkey(), lamports=lamports))

        paid = await send(pay(SOL))
        assert (await client.get_balance(you.pubkey())).value == SOL
        shown = (await client.get_transaction(paid, max_supported_transaction_version=0)).value
        assert shown.transaction.meta.fee == 5000 and shown.transaction.meta.err is None
        history = (await client.get_signatures_for_address(you.pubkey())).value
        assert [entry.signature for entry in history] == [paid]

        # Tokens of the demo mint.
        funded = simulator("sim_fund", [str(me.pubkey()), "1000", str(mint)])
        await client.confirm_transaction(Signature.from_string(funded), sleep_seconds=0.05)
        mine = get_associated_token_address(me.pubkey(), mint)
        yours = get_associated_token_address(you.pubkey(), mint)
        await send(
            create_idempotent_associated_token_account(me.pubkey(), you.pubkey(), mint),
            transfer_checked(TransferCheckedParams(program_id=TOKEN_PROGRAM_ID, source=mine, mint=mint, dest=yours,
                                                   owner=me.pubkey(), amount=250, decimals=6, signers=[])),
        )
        assert (await client.get_token_account_balance(yours)).value.amount == "250"
        parsed = (await client.get_account_info_json_parsed(yours)).value
        assert parsed.data.parsed["info"]["mint"] == str(mint)

        # Refused by the simulation before it, with its reason.
        blockhash = (await client.get_latest_blockhash()).value.blockhash
        doomed = VersionedTransaction(MessageV0.try_compile(me.pubkey(), [pay(100 * SOL)], [], blockhash), [me])
        simulated = (await client.simulate_transaction(doomed)).value
        assert any("insufficient lamports" in line for line in simulated.logs), simulated.logs
        try:
            await client.send_transaction(doomed)
        except (RPCException, SolanaRpcException) as refusal:
            assert "custom program error: 0x1" in str(refusal), refusal
        else:
            raise AssertionError("a payment beyond the balance was taken")
    print("solana-py: done")


asyncio.run(main())
