//! Through which listener a connection came that was open at the start. The kernel keeps no note of that.
//!
//! A listener comes into question if the connection may have inherited from it what it has: address, device,
//! transparency, and whether the address was chosen. If that is one listener, or only shards of one group are, the
//! connection is theirs. Otherwise it is nobody's, and counts as ambiguous.

use listentop_abi::listener::{FLAG_MPTCP, ListenerInfo, ListenerRef};

use crate::{
    kernel::{self, AF_INET, MaybeGone},
    maps::{ADDRESSES, AddressOwner, INFO, LocalAddress},
    values::{Lookup as _, MapValue, field},
};

/// [`LocalAddress::traits`]: IP_TRANSPARENT is set.
const TRANSPARENT: u32 = 1;
/// [`LocalAddress::traits`]: bound to a certain address.
const BOUND: u32 = 2;
/// [`LocalAddress::traits`]: the entry is for all such listeners of the namespace.
const ALL: u32 = 4;
/// [`AddressOwner::flags`]: IPv4 connections may come through one of them.
const FOR_V4: u32 = 1;
/// [`AddressOwner::flags`]: they are not all of one group.
const SEVERAL: u32 = 2;

/// Through which listener a connection came.
#[derive(Clone, Copy)]
pub(crate) enum Origin {
    /// Through none that listens.
    None,
    /// Through this one, or through another of its group if there are several shards.
    Listener(ListenerRef, u32),
    /// It cannot be told.
    Ambiguous,
}

/// Notes a listener, as one through which connections may have come.
#[inline(always)]
pub(crate) fn note(raw: MaybeGone, listener: ListenerRef, info: MapValue<ListenerInfo>) {
    let mut key = local_address(raw);
    let flags = if raw.family() == AF_INET || !raw.v6only() { FOR_V4 } else { 0 };
    add(&key, listener, info, flags);
    key = whole_namespace(key);
    add(&key, listener, info, flags);
}

#[inline(always)]
fn add(key: &LocalAddress, listener: ListenerRef, info: MapValue<ListenerInfo>, flags: u32) {
    let Some(owner) = ADDRESSES.value(key) else {
        // There is room: the table has two entries per slot, and user space returns no slot before the walk ends.
        let _ = ADDRESSES.insert(key, &AddressOwner { listener, shards: 1, flags }, 0);
        return;
    };
    let first = field!(owner.listener).get();
    if first == listener {
        return;
    }
    field!(owner.shards).set(field!(owner.shards).get() + 1);
    let other = INFO.value(first.slot).is_none_or(|first| !is_same_address(info, first));
    field!(owner.flags).set(field!(owner.flags).get() | flags | if other { SEVERAL } else { 0 });
}

/// Whether two listeners of one namespace, bound to the same device, are shards of one group.
#[inline(always)]
fn is_same_address(one: MapValue<ListenerInfo>, other: MapValue<ListenerInfo>) -> bool {
    field!(one.port).get() == field!(other.port).get()
        && field!(one.family).get() == field!(other.family).get()
        && (field!(one.flags).get() ^ field!(other.flags).get()) & FLAG_MPTCP == 0
        && field!(one.address).words()[0] == field!(other.address).words()[0]
        && field!(one.address).words()[1] == field!(other.address).words()[1]
}

/// The first listener that was noted at a listener's address: connections of a group count for it.
#[inline(always)]
pub(crate) fn first_shard(raw: MaybeGone) -> Option<ListenerRef> {
    let owner = ADDRESSES.value(&local_address(raw))?;
    Some(field!(owner.listener).get())
}

/// What has come into question so far.
struct Candidates {
    first: ListenerRef,
    shards: u32,
    entries: u32,
    several: bool,
}

impl Candidates {
    #[inline(always)]
    fn none() -> Self {
        Self { first: ListenerRef { slot: 0, generation: 0 }, shards: 0, entries: 0, several: false }
    }

    /// Looks where the connection is bound to the same device, or has it from elsewhere: a listener that is bound to
    /// none passes one on to IPv6 connections with link-local addresses, and to those of a VRF
    /// (net.ipv4.tcp_l3mdev_accept).
    #[inline(always)]
    fn look_on_devices(&mut self, key: LocalAddress, v4: bool) {
        self.look(&key, v4);
        if key.device != 0 {
            self.look(&LocalAddress { device: 0, ..key }, v4);
        }
    }

    #[inline(always)]
    fn look(&mut self, key: &LocalAddress, v4: bool) {
        let Some(owner) = ADDRESSES.value(key) else { return };
        let flags = field!(owner.flags).get();
        if v4 && flags & FOR_V4 == 0 {
            return;
        }
        if self.entries == 0 {
            self.first = field!(owner.listener).get();
            self.shards = field!(owner.shards).get();
        }
        self.entries += 1;
        self.several |= flags & SEVERAL != 0;
    }

    #[inline(always)]
    fn origin(&self) -> Origin {
        if self.entries == 0 {
            Origin::None
        } else if self.entries > 1 || self.several {
            Origin::Ambiguous
        } else {
            Origin::Listener(self.first, self.shards)
        }
    }
}

/// The origin of a connection.
#[inline(always)]
pub(crate) fn of(raw: MaybeGone) -> Origin {
    let outgoing = raw.outgoing();
    if outgoing == Some(true) {
        return Origin::None;
    }
    let key = local_address(raw);
    let v4 = is_v4_mapped(&key);
    let at_address = at_address(key, v4);
    let transparent = key.traits & TRANSPARENT != 0;
    if !transparent && !raw.listeners_are_looked_up() {
        return at_address;
    }
    // A rule or a program may have led it to a listener at another address.
    let mut anywhere = Candidates::none();
    anywhere.look_on_devices(whole_namespace(key), v4);
    match (anywhere.origin(), at_address) {
        (Origin::None, _) => Origin::None,
        // Nothing listens at its address: a process may as well have connected it.
        (_, Origin::None) if outgoing.is_none() => {
            if transparent {
                Origin::Ambiguous
            } else {
                Origin::None
            }
        }
        (origin, _) => origin,
    }
}

/// By the listeners at the connection's own address, at any IPv4 address, and at any.
#[inline(always)]
fn at_address(key: LocalAddress, v4: bool) -> Origin {
    let mut found = Candidates::none();
    found.look_on_devices(key, v4);
    if v4 {
        let mut any = key;
        // The first twelve bytes say that it is IPv4.
        [any.address[12], any.address[13], any.address[14], any.address[15]] = [0; 4];
        found.look_on_devices(any, v4);
    }
    found.look_on_devices(LocalAddress { address: kernel::any_address(), ..key }, v4);
    found.origin()
}

/// The key of the entry for all listeners of the namespace that have the same traits.
#[inline(always)]
fn whole_namespace(key: LocalAddress) -> LocalAddress {
    LocalAddress { address: kernel::any_address(), port: 0, traits: key.traits | ALL, ..key }
}

#[inline(always)]
fn local_address(raw: MaybeGone) -> LocalAddress {
    let address = if raw.family() == AF_INET { kernel::v4_mapped(raw.v4_address()) } else { raw.v6_address() };
    let transparent = if raw.transparent() { TRANSPARENT } else { 0 };
    let traits = transparent | if raw.address_bound() { BOUND } else { 0 };
    LocalAddress { address, netns: raw.netns(), port: u32::from(raw.port()), device: raw.device(), traits }
}

#[inline(always)]
fn is_v4_mapped(key: &LocalAddress) -> bool {
    let address = u128::from_ne_bytes(key.address);
    // On every architecture that is supported, the first byte is the lowest.
    address as u64 == 0 && (address >> 64) as u32 == 0xffff_0000
}
