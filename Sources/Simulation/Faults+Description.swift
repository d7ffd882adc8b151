extension Fault.Victim: CustomStringConvertible {
    var description: String {
        switch self {
        case .slot(let slot): "the server in slot \(slot)"
        case .leader(let slot): "the leader (or slot \(slot))"
        }
    }
}

extension Fault: CustomStringConvertible {
    private static func milliseconds(_ time: UInt64) -> String { "\(time / 1000) ms" }

    var description: String {
        switch self {
        case .crash(let victim, let down): "\(victim) crashes for \(Self.milliseconds(down))"
        case .crashAtEffect(let victim, let effects, let down):
            "\(victim) crashes after \(effects) more effects, for \(Self.milliseconds(down))"
        case .crashAtMoment(let moment, let after, let down):
            "the next server to come to \(moment) crashes \(Self.milliseconds(after)) later, for \(Self.milliseconds(down))"
        case .powerCut(let down): "the power goes for \(Self.milliseconds(down))"
        case .pause(let victim, let time): "\(victim) stands still for \(Self.milliseconds(time))"
        case .slowDisk(let victim, let sync, let time):
            "syncs of \(victim) take \(Self.milliseconds(sync)) for \(Self.milliseconds(time))"
        case .failDisk(let victim, let down):
            "a write of \(victim) fails; it is back after \(Self.milliseconds(down))"
        case .isolate(let victim, let time): "\(victim) is cut off for \(Self.milliseconds(time))"
        case .oneWay(let from, let to, let time):
            "nothing gets from slot \(from) to slot \(to) for \(Self.milliseconds(time))"
        case .halves(let mask, let bridge, let time):
            "the slots of \(String(mask & 127, radix: 2)) and the others are parted for \(Self.milliseconds(time))"
                + (bridge.map { ", slot \($0) sees both" } ?? "")
        case .cut(let left, let right): "the connection of slots \(left) and \(right) breaks"
        case .storm(let loss, let delay, let time):
            "\(loss) of 1000 messages are lost, the others up to \(Self.milliseconds(delay)) late, for \(Self.milliseconds(time))"
        case .wipe(let slot): "the disk in slot \(slot) is lost"
        case .changeMembership(let choice): "the administrator changes the membership (\(choice % 1000))"
        case .transfer(let slot):
            "the administrator has leadership handed to \(slot.map { "slot \($0)" } ?? "whoever is best")"
        case .giveWay(let victim, let gives): "\(victim) \(gives ? "would rather not lead" : "does not mind to lead")"
        case .bar(let victim, let time): "\(victim) may not lead for \(Self.milliseconds(time))"
        case .snapshot(let slot): "the server in slot \(slot) is asked for a snapshot"
        case .burst(let victim, let count, let isolation):
            "\(count) commands come to \(victim) at once"
                + (isolation > 0 ? ", which is cut off for \(Self.milliseconds(isolation))" : "")
        case .clock(let slot, let pace): "the clock in slot \(slot) runs at \(pace) thousandths"
        }
    }
}
