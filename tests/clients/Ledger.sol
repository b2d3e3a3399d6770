// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.0;

// What the clients deploy: a constructor, storage, events, value, a revert with a reason and one with a custom error.
contract Ledger {
    error Poor(address who, uint256 held, uint256 wanted);

    event Deposited(address indexed who, uint256 amount, string note);

    string public title;
    address public immutable owner;
    mapping(address => uint256) public held;

    constructor(string memory name) payable {
        title = name;
        owner = msg.sender;
        held[msg.sender] = msg.value;
    }

    function deposit(string calldata note) external payable returns (uint256) {
        require(msg.value > 0, "nothing sent");
        held[msg.sender] += msg.value;
        emit Deposited(msg.sender, msg.value, note);
        return held[msg.sender];
    }

    function withdraw(uint256 amount) external {
        if (held[msg.sender] < amount) revert Poor(msg.sender, held[msg.sender], amount);
        held[msg.sender] -= amount;
        payable(msg.sender).transfer(amount);
    }
}
