// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {
    AccessControlDefaultAdminRules
} from "@openzeppelin/contracts/access/extensions/AccessControlDefaultAdminRules.sol";

/// @title Closed epochs of an attribution log, which cannot be changed afterwards.
/// @notice An epoch is a root, the size of the log, and the root of the epoch before it. The root is the digest of the epoch's
/// document, which holds the root of the log at that size and all else that the epoch says. What is stored of an epoch is one
/// hash; its values are in the event {EpochAnchored}.
///
/// Enforced here: an epoch is anchored once and never changes; epochs follow each other without a gap, beginning with
/// {firstEpoch}; each names the root that was anchored for the one before it; the size never falls; only publishers anchor.
///
/// Not enforced here: what a root stands for. That the log in its document is append-only is shown by the consistency proofs of
/// the log, that it holds what really happened by nobody. The root that {firstEpoch} names as its previous one is the
/// publisher's word, as this contract knows none before it.
contract AttributionAnchor is AccessControlDefaultAdminRules {
    /// @param number Number of the epoch.
    /// @param size Number of leaves of the log at the end of the epoch.
    /// @param root Digest of the epoch's document.
    /// @param previousRoot Digest of the document of the epoch before.
    struct Epoch {
        uint64 number;
        uint64 size;
        bytes32 root;
        bytes32 previousRoot;
    }

    /// @notice What, together with the root that an epoch names as its previous one, opens the commitment of the epoch before.
    /// @param size Number of leaves of the log at the end of the epoch before.
    /// @param previousRoot Root that the epoch before named as its own previous one.
    struct Opening {
        uint64 size;
        bytes32 previousRoot;
    }

    /// @notice Who may anchor.
    bytes32 public constant PUBLISHER_ROLE = keccak256("PUBLISHER_ROLE");

    /// @notice The number that anchoring begins with.
    uint64 public immutable firstEpoch;

    /// @notice The commitment of each epoch, see {commitmentOf}; zero for one that is not anchored.
    mapping(uint64 number => bytes32) public commitments;

    /// @notice The epoch was anchored. Emitted once for each.
    event EpochAnchored(uint64 indexed number, bytes32 indexed root, uint64 size, bytes32 previousRoot);

    /// @notice The epoch is anchored already, with other values.
    error EpochClosed(uint64 number, bytes32 committed, bytes32 given);
    /// @notice The epoch before this one is not anchored, or the number is below the first.
    error EpochOutOfOrder(uint64 number);
    /// @notice Previous root, size and the root before do not open the commitment of the epoch before.
    error PreviousEpochDiffers(uint64 number, bytes32 committed, bytes32 given);
    /// @notice The log has fewer leaves than at the end of the epoch before.
    error SizeFell(uint64 number, uint64 previousSize, uint64 size);

    /// @param firstEpoch_ Number of the first epoch to be anchored.
    /// @param ownerDelay Seconds between the two steps in which the owner changes.
    /// @param owner_ Who grants and revokes roles.
    /// @param publisher Who may anchor from the beginning.
    constructor(
        uint64 firstEpoch_,
        uint48 ownerDelay,
        address owner_,
        address publisher
    ) AccessControlDefaultAdminRules(ownerDelay, owner_) {
        firstEpoch = firstEpoch_;
        _grantRole(PUBLISHER_ROLE, publisher);
    }

    /// @notice Anchors an epoch. The same again changes nothing and emits nothing, so that a publisher who does not know whether
    /// a transaction was included may send another.
    /// @param epoch The epoch.
    /// @param previous Opens the commitment of the epoch before; not read for {firstEpoch}.
    /// @return added Whether the epoch was not anchored before.
    function anchor(
        Epoch calldata epoch,
        Opening calldata previous
    ) external onlyRole(PUBLISHER_ROLE) returns (bool added) {
        uint64 number = epoch.number;
        bytes32 given = commitmentOf(epoch);
        bytes32 committed = commitments[number];
        if (committed == given) return false;
        if (committed != 0) revert EpochClosed(number, committed, given);
        if (number < firstEpoch) revert EpochOutOfOrder(number);
        if (number > firstEpoch) _requireFollows(epoch, previous);

        commitments[number] = given;
        emit EpochAnchored(number, epoch.root, epoch.size, epoch.previousRoot);
        return true;
    }

    /// @notice Whether exactly these values were anchored.
    function isAnchored(Epoch calldata epoch) external view returns (bool) {
        return commitments[epoch.number] == commitmentOf(epoch);
    }

    /// @notice Number of the epoch that is to be anchored next. Meant to be called from outside of the chain: it searches.
    function nextEpoch() external view returns (uint64) {
        uint64 anchored = firstEpoch;
        if (commitments[anchored] == 0) return anchored;
        // Numbers have no gaps, so doubling finds one that is missing, and halving then finds the first.
        uint64 step = 1;
        while (commitments[anchored + step] != 0) {
            anchored += step;
            step *= 2;
        }
        uint64 missing = anchored + step;
        while (missing - anchored > 1) {
            uint64 middle = anchored + (missing - anchored) / 2;
            if (commitments[middle] == 0) missing = middle;
            else anchored = middle;
        }
        return missing;
    }

    /// @notice What is stored for an epoch: the hash of number, root, size and previous root, each as 32 bytes.
    function commitmentOf(Epoch calldata epoch) public pure returns (bytes32) {
        return _commitment(epoch.number, epoch.root, epoch.size, epoch.previousRoot);
    }

    function _requireFollows(Epoch calldata epoch, Opening calldata previous) private view {
        uint64 number = epoch.number;
        bytes32 committed = commitments[number - 1];
        if (committed == 0) revert EpochOutOfOrder(number);
        bytes32 given = _commitment(number - 1, epoch.previousRoot, previous.size, previous.previousRoot);
        if (committed != given) revert PreviousEpochDiffers(number, committed, given);
        if (epoch.size < previous.size) revert SizeFell(number, previous.size, epoch.size);
    }

    function _commitment(
        uint64 number,
        bytes32 root,
        uint64 size,
        bytes32 previousRoot
    ) private pure returns (bytes32) {
        return keccak256(abi.encode(number, root, size, previousRoot));
    }
}
