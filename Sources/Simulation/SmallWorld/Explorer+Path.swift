/// The way to a broken promise.
extension SmallWorld.Explorer {
    /// Something on the way. A silent event changes nothing but what is on its way; it is told where a later one
    /// needs its messages.
    private struct PathEvent {
        var server: Int
        var action: Action
        /// The server's state afterwards; nil for the event that breaks the promise.
        var after: UInt32?
        var isSilent = false
        var firstSent: [UInt32] = []
    }

    /// The events from the beginning to a world, and all messages that they sent.
    private struct Path {
        var events: [PathEvent] = []
        var sent: Set<UInt32> = []  // only ever asked for members

        mutating func append(_ event: PathEvent, sending messages: [UInt32]) {
            var event = event
            event.firstSent = messages.filter { !sent.contains($0) }
            guard !event.isSilent || !event.firstSent.isEmpty else { return }
            sent.formUnion(event.firstSent)
            events.append(event)
        }

        /// Without the silent events that nobody needs.
        var told: [PathEvent] {
            var needed: Set<UInt32> = []
            var told: [PathEvent] = []
            for event in events.reversed() where !event.isSilent || event.firstSent.contains(where: needed.contains) {
                if event.action.kind == .deliver { needed.insert(event.action.argument) }
                told.append(event)
            }
            return told.reversed()
        }
    }

    mutating func explain(_ end: Found) -> SmallWorld.Violation {
        var places: [Int] = []
        var walked: Int? = place
        while let at = walked {
            places.append(at)
            walked = states.parent(of: at)
        }
        places.reverse()
        var path = Path()
        addSilentEvents(at: world(at: 0), to: &path)
        for (from, to) in zip(places, places.dropFirst()) {
            let target = world(at: to)
            place = from
            wanted = target
            found = nil
            // Every event of an expanded world was tried before without a violation, up to the one that is looked for.
            do throws(Found) { try expand() } catch { break }
            guard let found else { break }
            let before = world(at: from)[2 * found.server]
            let position = local.step(before, found.action)
            let event = PathEvent(server: found.server, action: found.action, after: target[2 * found.server])
            path.append(event, sending: local.results[position].sent.map(\.message))
            addSilentEvents(at: target, to: &path)
        }
        wanted = nil
        path.append(PathEvent(server: end.server, action: end.action, after: nil), sending: [])
        let lines = path.told.enumerated().map { number, event in
            let text = SmallWorld.Transcript.describe(event.action, at: event.server + 1, local)
            guard let after = event.after, !event.isSilent else { return "\(number + 1). \(text)" }
            let state = SmallWorld.Transcript.describe(local.nodes[after])
            return "\(number + 1). \(text)\n      s\(event.server + 1): \(state)"
        }
        return SmallWorld.Violation(description: end.broken.description, path: lines)
    }

    /// What the servers of `world` can say, in an order in which they can say it.
    private mutating func addSilentEvents(at world: [UInt32], to path: inout Path) {
        guard isSaturated else { return }
        var count = -1
        while count != path.events.count {
            count = path.events.count
            for server in 0..<options.servers {
                let (state, inbox) = (world[2 * server], world[2 * server + 1])
                for action in silentActions(state, inbox) {
                    if action.kind == .deliver, !path.sent.contains(action.argument) { continue }
                    let position = local.step(state, action)
                    let event = PathEvent(server: server, action: action, after: state, isSilent: true)
                    path.append(event, sending: local.results[position].sent.map(\.message))
                }
            }
        }
    }

    private func world(at place: Int) -> [UInt32] {
        var state = current
        states.read(place, into: &state)
        return state
    }
}
