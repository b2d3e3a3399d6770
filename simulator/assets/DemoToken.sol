// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

// The ERC-20 (EIP-20) token that every simulated Ethereum chain starts with. Anybody may mint: it is worth nothing.
//
// DemoToken.bin holds the runtime bytecode in hexadecimal, as one line. It is made by `solc` 0.8.37 from npm, from this folder, with
//
//   npm install solc@0.8.37
//   node -e '
//     const fs = require("fs"), solc = require("solc");
//     const input = { language: "Solidity", sources: { "DemoToken.sol": { content: fs.readFileSync("DemoToken.sol", "utf8") } },
//       settings: { optimizer: { enabled: true, runs: 200 }, evmVersion: "paris", metadata: { bytecodeHash: "none", appendCBOR: false },
//         outputSelection: { "*": { "*": ["evm.deployedBytecode.object"] } } } };
//     const output = JSON.parse(solc.compile(JSON.stringify(input)));
//     fs.writeFileSync("DemoToken.bin", output.contracts["DemoToken.sol"].DemoToken.evm.deployedBytecode.object + "\n");'
//
// It has no constructor and no immutable, so that the runtime bytecode is the whole contract.
contract DemoToken {
    string public constant name = "Portcullis Demo Dollar";
    string public constant symbol = "PDD";
    uint8 public constant decimals = 6;

    uint256 public totalSupply;
    mapping(address => uint256) public balanceOf;
    mapping(address => mapping(address => uint256)) public allowance;

    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);

    function mint(address to, uint256 value) external returns (bool) {
        require(to != address(0), "ERC20: mint to the zero address");
        totalSupply += value;
        unchecked {
            balanceOf[to] += value;
        }
        emit Transfer(address(0), to, value);
        return true;
    }

    function transfer(address to, uint256 value) external returns (bool) {
        move(msg.sender, to, value);
        return true;
    }

    function approve(address spender, uint256 value) external returns (bool) {
        allowance[msg.sender][spender] = value;
        emit Approval(msg.sender, spender, value);
        return true;
    }

    function transferFrom(address from, address to, uint256 value) external returns (bool) {
        uint256 allowed = allowance[from][msg.sender];
        if (allowed != type(uint256).max) {
            require(allowed >= value, "ERC20: insufficient allowance");
            unchecked {
                allowance[from][msg.sender] = allowed - value;
            }
        }
        move(from, to, value);
        return true;
    }

    function move(address from, address to, uint256 value) private {
        require(to != address(0), "ERC20: transfer to the zero address");
        uint256 held = balanceOf[from];
        require(held >= value, "ERC20: transfer amount exceeds balance");
        unchecked {
            balanceOf[from] = held - value;
            balanceOf[to] += value;
        }
        emit Transfer(from, to, value);
    }
}
