"""python-bitcoinlib drives a Bitcoin node: blocks, coins, a payment that it builds and signs, refusals. The node's URL with its
credentials is the first argument."""

import sys
from decimal import Decimal

import bitcoin
from bitcoin.core import COIN, CMutableTransaction, COutPoint, CMutableTxIn, CMutableTxOut, b2lx, b2x, lx
from bitcoin.core.script import SIGHASH_ALL, CScript, SignatureHash
from bitcoin.core.scripteval import SCRIPT_VERIFY_P2SH, VerifyScript
from bitcoin.rpc import InvalidAddressOrKeyError, Proxy, RawProxy, VerifyError, VerifyRejectedError
from bitcoin.wallet import CBitcoinSecret, P2PKHBitcoinAddress


def refused(error, part, call):
    """The call is refused with `part` in the message."""
    try:
        call()
    except error as refusal:
        assert part in str(refusal), refusal
        return
    raise AssertionError(f"{part!r} was expected")


def main():
    bitcoin.SelectParams("regtest")
    raw, node = RawProxy(service_url=sys.argv[1]), Proxy(service_url=sys.argv[1])
    info = raw.getblockchaininfo()
    assert info["chain"] == "regtest" and info["blocks"] == node.getblockcount() >= 100
    assert b2lx(node.getbestblockhash()) == info["bestblockhash"]
    tip = node.getblock(node.getbestblockhash())
    assert tip.GetHash() == node.getblockhash(info["blocks"]) and tip.calc_merkle_root() == tip.hashMerkleRoot
    assert node.getblockheader(tip.GetHash()).hashPrevBlock == tip.hashPrevBlock

    key = CBitcoinSecret.from_secret_bytes(b"\x21" * 32)
    address = P2PKHBitcoinAddress.from_pubkey(key.pub)
    script = address.to_scriptPubKey()
    assert raw.validateaddress(str(address))["isvalid"]

    # A coin of the faucet's.
    funding = lx(raw.sim_fund(str(address), COIN))
    paid = node.getrawtransaction(funding)
    index = next(i for i, out in enumerate(paid.vout) if out.scriptPubKey == script)
    coin = node.gettxout(COutPoint(funding, index))["txout"]
    assert coin.nValue == COIN and coin.scriptPubKey == script

    def spend(fee):
        tx = CMutableTransaction([CMutableTxIn(COutPoint(funding, index), nSequence=0xFFFFFFFD)],
                                 [CMutableTxOut(COIN - fee, script)])
        signature = key.sign(SignatureHash(script, tx, 0, SIGHASH_ALL)) + bytes([SIGHASH_ALL])
        tx.vin[0].scriptSig = CScript([signature, key.pub])
        VerifyScript(tx.vin[0].scriptSig, script, tx, 0, (SCRIPT_VERIFY_P2SH,))
        return tx

    refused(VerifyRejectedError, "min relay fee not met", lambda: node.sendrawtransaction(spend(10)))
    first = spend(1000)
    sent = node.sendrawtransaction(first)
    assert sent == first.GetTxid() and node.getrawmempool() == [sent]
    refused(IndexError, "not found", lambda: node.gettxout(COutPoint(funding, index)))
    entry = raw.getmempoolentry(b2lx(sent))
    assert entry["fees"]["base"] == Decimal("0.00001") and entry["bip125-replaceable"] is True
    refused(VerifyRejectedError, "insufficient fee", lambda: node.sendrawtransaction(spend(1100)))
    better = spend(5000)
    assert raw.testmempoolaccept([b2x(better.serialize())])[0]["allowed"] is True
    sent = node.sendrawtransaction(better)
    assert node.getrawmempool() == [sent]
    refused(InvalidAddressOrKeyError, "Transaction not in mempool", lambda: raw.getmempoolentry(b2lx(first.GetTxid())))

    block = b2lx(next(node.generatetoaddress(1, address)))
    shown = raw.getrawtransaction(b2lx(sent), 1)
    assert (shown["confirmations"], shown["blockhash"]) == (1, block)
    assert raw.getblock(block, 1)["tx"][1] == b2lx(sent)
    refused(VerifyError, "bad-txns-inputs-missingorspent", lambda: node.sendrawtransaction(spend(9000)))
    print("python-bitcoinlib: done")


main()
