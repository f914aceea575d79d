// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title A token for tests: anybody mints, decimals are chosen, and it can be told to keep a fee of each transfer.
contract MockToken is ERC20 {
    uint8 private immutable _decimals;

    /// @notice Kept of each transfer, in parts of ten thousand.
    uint256 public fee;

    constructor(uint8 decimals_) ERC20("Mock token", "MOCK") {
        _decimals = decimals_;
    }

    function decimals() public view override returns (uint8) {
        return _decimals;
    }

    function mint(address account, uint256 amount) external {
        _mint(account, amount);
    }

    function setFee(uint256 fee_) external {
        fee = fee_;
    }

    function _update(address from, address to, uint256 value) internal override {
        bool transferred = from != address(0) && to != address(0);
        uint256 kept = transferred ? (value * fee) / 10_000 : 0;
        super._update(from, to, value - kept);
        if (kept > 0) super._update(from, address(0), kept);
    }
}
