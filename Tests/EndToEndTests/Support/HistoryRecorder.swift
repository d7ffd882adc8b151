import KontikiClient
import Synchronization

/// One line of a recorded history, in Kontiki's format; see `kontiki verify --help`.
struct HistoryEvent: Hashable, Sendable {
    enum Kind: String { case invoke, ok, fail, info }

    var process: Int
    var kind: Kind
    var function: String
    var key: String
    /// Written, or read; nil is `null` where `hasValue`.
    var value: String?
    var hasValue = false
    var expectedRevision: UInt64?
    var succeeded: Bool?
    var revision: UInt64?

    /// The keys and values of the tests need no escapes.
    var line: String {
        var members = [
            #""process":\#(process)"#, #""type":"\#(kind.rawValue)""#, #""f":"\#(function)""#, #""key":"\#(key)""#,
        ]
        if hasValue { members.append(#""value":\#(value.map { "\"\($0)\"" } ?? "null")"#) }
        if let expectedRevision { members.append(#""expected_revision":\#(expectedRevision)"#) }
        if let succeeded { members.append(#""succeeded":\#(succeeded)"#) }
        if let revision { members.append(#""revision":\#(revision)"#) }
        return "{" + members.joined(separator: ",") + "}\n"
    }
}

/// Clients that use a few keys, and write down what they asked and were answered, in the order of happening.
final class HistoryRecorder: Sendable {
    private struct State {
        var events: [HistoryEvent] = []
        var counts: [HistoryEvent.Kind: Int] = [:]
        var isStopped = false
    }

    private let state = Mutex(State())
    private let keys: [String]

    init(keys: Int) { self.keys = (0..<keys).map { "history/\($0)" } }

    var events: [HistoryEvent] { state.withLock { $0.events } }
    var isStopped: Bool { state.withLock { $0.isStopped } }

    func stop() { state.withLock { $0.isStopped = true } }

    func count(_ kind: HistoryEvent.Kind) -> Int { state.withLock { $0.counts[kind, default: 0] } }

    private func note(_ event: HistoryEvent) {
        state.withLock { state in
            state.events.append(event)
            state.counts[event.kind, default: 0] += 1
        }
    }

    /// Asks through one client until it is stopped, and at last reads every key.
    func run(process: Int, _ client: KontikiClient, seed: UInt64) async {
        var random = SeededGenerator(seed: seed)
        var revisions: [String: UInt64] = [:]
        var number = 0
        while !isStopped {
            number += 1
            let key = keys[Int.random(in: keys.indices, using: &random)]
            var event = HistoryEvent(process: process, kind: .invoke, function: "get", key: key)
            let value = "\(process).\(number)"
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<4: break
            case 4..<6: (event.function, event.value, event.hasValue) = ("put", value, true)
            case 6: event.function = "delete"
            case let choice:
                // The revision that this client saw last, which another one has perhaps overwritten: some fail.
                (event.function, event.expectedRevision, event.hasValue) = ("cas", revisions[key] ?? 0, true)
                event.value = choice == 7 && event.expectedRevision != 0 ? nil : value
            }
            let end = await perform(event, client)
            revisions[key] = end.kind == .ok ? end.revision : revisions[key]
            // More than this says nothing more, and only makes the history longer.
            try? await Task.sleep(for: .milliseconds(end.kind == .ok ? 3 : 10))
        }
    }

    /// Reads every key once.
    func readAll(process: Int, _ client: KontikiClient) async {
        for key in keys {
            _ = await perform(HistoryEvent(process: process, kind: .invoke, function: "get", key: key), client)
        }
    }

    private func perform(_ invocation: HistoryEvent, _ client: KontikiClient) async -> HistoryEvent {
        note(invocation)
        var end = HistoryEvent(
            process: invocation.process,
            kind: .ok,
            function: invocation.function,
            key: invocation.key
        )
        do throws(ClientError) {
            try await ask(invocation, client, &end)
        } catch {
            if error.code == .preconditionFailed {
                end.succeeded = false
            } else {
                end.kind = error.outcome == .notExecuted ? .fail : .info
            }
        }
        note(end)
        return end
    }

    private func ask(
        _ invocation: HistoryEvent,
        _ client: KontikiClient,
        _ end: inout HistoryEvent
    ) async throws(ClientError) {
        let key = Key(invocation.key)
        let condition = invocation.expectedRevision.map { $0 == 0 ? Condition.absent : .revision($0) }
        switch (invocation.function, invocation.value) {
        case ("get", _):
            let item = try await client.get(key)
            (end.value, end.hasValue) = (item.map { String(decoding: $0.value, as: UTF8.self) }, true)
            end.revision = item?.modifyRevision
        case (_, let value?):
            end.revision = try await client.put(key, Array(value.utf8), condition: condition).revision
        case (_, nil):
            try await client.delete(key, condition: condition)
        }
    }
}

extension HistoryRecorder {
    /// Has a process for each seed ask the nodes, always the same one and only once, while `body` goes on; at last every key is read at
    /// every node.
    func record(_ cluster: Cluster, seeds: [UInt64], while body: () async throws -> Void) async throws {
        var options = KontikiClient.Options()
        options.totalTimeout = .zero
        options.attemptTimeout = .milliseconds(1200)
        let clients = try cluster.nodes.map { try KontikiClient(endpoints: [$0.endpoint], options: options) }
        try await withThrowingTaskGroup { group in
            for (process, seed) in seeds.enumerated() {
                let client = clients[process % clients.count]
                group.addTask { await self.run(process: process, client, seed: seed) }
            }
            defer { stop() }
            try await body()
            stop()
            try await group.waitForAll()
        }
        for (index, client) in clients.enumerated() {
            await readAll(process: 100 + index, client)
            await client.shutdown()
        }
    }

    /// Waits until so many more requests are answered.
    func moreAnswers(_ count: Int) async throws {
        let before = self.count(.ok)
        try await eventually("\(count) more requests are answered", within: .seconds(120)) {
            self.count(.ok) > before + count
        }
    }
}
