// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title A token without any worth, for trying payments out on a local chain.
/// @notice All of it belongs to its holder at the beginning, and there is never more.
contract LocalToken is ERC20 {
    /// @param holder Who gets all of it.
    constructor(address holder) ERC20("Local token", "LOCAL") {
        _mint(holder, 1_000_000_000 * 10 ** decimals());
    }

    /// @notice As many as the tokens that most payments are made in have.
    function decimals() public pure override returns (uint8) {
        return 6;
    }
}
