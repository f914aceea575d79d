// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {
    AccessControlDefaultAdminRules
} from "@openzeppelin/contracts/access/extensions/AccessControlDefaultAdminRules.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

/// @title Royalties in one ERC-20, claimed against a tree of cumulative amounts.
/// @notice A leaf says what an account has earned in all, from the beginning. A claim pays what of that was not paid yet. So a
/// published tree replaces the one before it, claims that were not made stay claimable, and nothing can be claimed twice.
///
/// Enforced here: all payments to an account together are never more than the amount of the leaf that the last of them showed;
/// what was claimed never becomes less, whatever is published, and a tree with a lower amount than was claimed pays nothing;
/// a payment goes to the account of the leaf, whoever sends the claim; a leaf counts for one chain, one distributor and one
/// token; trees are numbered without gaps, and a number stands for one tree; tokens leave by claims alone, neither the owner
/// nor the publisher can take them out in another way; while paused nobody is paid.
///
/// Not enforced here: what a tree says. A publisher can publish one that pays anybody, or one in which an account has less than
/// in the tree before, which takes back what was not claimed yet. That the contract holds enough for all claims is not enforced
/// either; one that cannot be paid in full is refused and stays claimable. A token that takes a fee, or changes balances by
/// itself, is not supported.
contract RoyaltyDistributor is AccessControlDefaultAdminRules, Pausable {
    using SafeERC20 for IERC20;

    /// @notice Who may publish trees.
    bytes32 public constant PUBLISHER_ROLE = keccak256("PUBLISHER_ROLE");

    /// @notice Who may pause. Only the owner ends a pause.
    bytes32 public constant PAUSER_ROLE = keccak256("PAUSER_ROLE");

    /// @notice What is paid out.
    IERC20 public immutable token;

    /// @notice Number of the tree that claims are checked against; zero before the first.
    uint64 public sequence;

    /// @notice Root of that tree.
    bytes32 public root;

    /// @notice What each account has been paid in all.
    mapping(address account => uint256) public claimed;

    /// @notice The funder paid in.
    event Funded(address indexed funder, uint256 amount);
    /// @notice A tree was published. `total` is the sum of its leaves, as its publisher says.
    event RootPublished(uint64 indexed sequence, bytes32 indexed root, uint256 total);
    /// @notice The account was paid `amount`, and with it `cumulative` in all, by the tree of this number.
    event Claimed(address indexed account, uint64 indexed sequence, uint256 amount, uint256 cumulative);

    /// @notice There is no contract at the address of the token.
    error TokenMissing(address token);
    /// @notice The token moved another amount than it was asked to.
    error InexactTransfer(uint256 asked, uint256 received);
    /// @notice The number does not follow the last one.
    error SequenceOutOfOrder(uint64 expected, uint64 given);
    /// @notice The last number was given another root.
    error SequenceTaken(uint64 sequence, bytes32 published, bytes32 given);
    /// @notice The proof does not lead from this account and amount to the root.
    error InvalidProof(address account, uint256 cumulative);
    /// @notice The account was paid this much already.
    error NothingToClaim(address account, uint256 claimed, uint256 cumulative);
    /// @notice The contract does not hold enough to pay the claim.
    error InsufficientFunds(uint256 available, uint256 needed);

    /// @param token_ What is paid out.
    /// @param ownerDelay Seconds between the two steps in which the owner changes.
    /// @param owner_ Who grants and revokes roles and ends a pause.
    /// @param publisher Who may publish from the beginning.
    /// @param pauser Who may pause from the beginning.
    constructor(
        IERC20 token_,
        uint48 ownerDelay,
        address owner_,
        address publisher,
        address pauser
    ) AccessControlDefaultAdminRules(ownerDelay, owner_) {
        if (address(token_).code.length == 0) revert TokenMissing(address(token_));
        token = token_;
        _grantRole(PUBLISHER_ROLE, publisher);
        _grantRole(PAUSER_ROLE, pauser);
    }

    /// @notice Pays in, out of what the caller has allowed. A plain transfer to this contract counts as well, without the event.
    function fund(uint256 amount) external {
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = token.balanceOf(address(this)) - before;
        if (received != amount) revert InexactTransfer(amount, received);
        emit Funded(msg.sender, amount);
    }

    /// @notice Publishes a tree in place of the one before. The last one again changes nothing and emits nothing. Allowed while
    /// paused, so that a wrong tree can be replaced before anybody claims from it.
    /// @param sequence_ The number after {sequence}.
    /// @param root_ Root of the tree.
    /// @param total Sum of the cumulative amounts of its leaves; it goes into the event and is not checked.
    /// @return added Whether the tree was not published before.
    function publish(
        uint64 sequence_,
        bytes32 root_,
        uint256 total
    ) external onlyRole(PUBLISHER_ROLE) returns (bool added) {
        uint64 last = sequence;
        if (sequence_ == last && last != 0) {
            if (root_ != root) revert SequenceTaken(last, root, root_);
            return false;
        }
        if (sequence_ != last + 1) revert SequenceOutOfOrder(last + 1, sequence_);
        sequence = sequence_;
        root = root_;
        emit RootPublished(sequence_, root_, total);
        return true;
    }

    /// @notice Pays the account what it has earned and was not paid yet. Anybody may send it; only the account is paid.
    /// @param account Account of the leaf.
    /// @param cumulative Amount of the leaf.
    /// @param proof Siblings from the leaf up.
    /// @return amount What was paid.
    function claim(
        address account,
        uint256 cumulative,
        bytes32[] calldata proof
    ) external whenNotPaused returns (uint256 amount) {
        if (!MerkleProof.verifyCalldata(proof, root, leafOf(account, cumulative))) {
            revert InvalidProof(account, cumulative);
        }
        uint256 paid = claimed[account];
        if (cumulative <= paid) revert NothingToClaim(account, paid, cumulative);
        amount = cumulative - paid;
        uint256 available = token.balanceOf(address(this));
        if (available < amount) revert InsufficientFunds(available, amount);

        // Written before the token is called, which might call back.
        claimed[account] = cumulative;
        emit Claimed(account, sequence, amount, cumulative);
        token.safeTransfer(account, amount);
    }

    /// @notice Stops payments.
    function pause() external onlyRole(PAUSER_ROLE) {
        _pause();
    }

    /// @notice Lets payments go on.
    function unpause() external onlyRole(DEFAULT_ADMIN_ROLE) {
        _unpause();
    }

    /// @notice The leaf of an account: the hash of the hash of chain id, distributor, token, account and amount, each as 32
    /// bytes. Hashed twice, a leaf cannot be passed off as an inner node, or the other way round.
    function leafOf(address account, uint256 cumulative) public view returns (bytes32) {
        bytes32 inner = keccak256(abi.encode(block.chainid, address(this), address(token), account, cumulative));
        return keccak256(bytes.concat(inner));
    }
}
