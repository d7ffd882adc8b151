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
    /// The value that a transaction compares with; nil is `null` where `hasExpected`.
    var expected: String?
    var hasExpected = false
    var succeeded: Bool?
    var revision: UInt64?

    /// The keys and values of the tests need no escapes.
    var line: String {
        var members = [
            #""process":\#(process)"#, #""type":"\#(kind.rawValue)""#, #""f":"\#(function)""#, #""key":"\#(key)""#,
        ]
        if hasValue { members.append(#""value":\#(value.map { "\"\($0)\"" } ?? "null")"#) }
        if hasExpected { members.append(#""expected":\#(expected.map { "\"\($0)\"" } ?? "null")"#) }
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
    /// Those that hold numbers.
    private let counters: [String]
    /// Also increments and transactions.
    private let isMixed: Bool

    init(keys: Int, isMixed: Bool = false) {
        self.keys = (0..<keys).map { "history/\($0)" }
        counters = isMixed ? ["history/n1", "history/n2"] : []
        self.isMixed = isMixed
    }

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
        var seen: [String: HistoryEvent] = [:]
        var number = 0
        while !isStopped {
            number += 1
            let event =
                isMixed && Int.random(in: 0..<4, using: &random) == 0
                ? counting(process, &random) : asking(process, "\(process).\(number)", seen, &random)
            let end = await perform(event, client)
            if end.kind == .ok { seen[event.key] = end }
            // More than this says nothing more, and only makes the history longer.
            try? await Task.sleep(for: .milliseconds(end.kind == .ok ? 3 : 10))
        }
    }

    private func counting(_ process: Int, _ random: inout SeededGenerator) -> HistoryEvent {
        let key = counters[Int.random(in: counters.indices, using: &random)]
        let function = ["incr", "incr", "incr", "get", "delete"][Int.random(in: 0..<5, using: &random)]
        return HistoryEvent(process: process, kind: .invoke, function: function, key: key)
    }

    private func asking(
        _ process: Int,
        _ value: String,
        _ seen: [String: HistoryEvent],
        _ random: inout SeededGenerator
    ) -> HistoryEvent {
        let key = keys[Int.random(in: keys.indices, using: &random)]
        var event = HistoryEvent(process: process, kind: .invoke, function: "get", key: key)
        switch Int.random(in: 0..<10, using: &random) {
        case 0..<4: break
        case 4..<6: (event.function, event.value, event.hasValue) = ("put", value, true)
        case 6: event.function = "delete"
        case 7 where isMixed, 8 where isMixed:
            // The value that this client read last; nothing read is nothing there.
            (event.function, event.value, event.hasValue) = ("cas", value, true)
            (event.expected, event.hasExpected) = (seen[key]?.function == "get" ? seen[key]?.value : nil, true)
        case let choice:
            // The revision that this client saw last, which another one has perhaps overwritten: some fail.
            (event.function, event.expectedRevision, event.hasValue) = ("cas", seen[key]?.revision ?? 0, true)
            event.value = choice == 7 && event.expectedRevision != 0 ? nil : value
        }
        return event
    }

    /// Reads every key once.
    func readAll(process: Int, _ client: KontikiClient) async {
        for key in keys + counters {
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
        case ("incr", _):
            (end.value, end.hasValue) = (String(try await client.increment(key)), true)
        case (_, let value?) where invocation.hasExpected:
            let compare =
                invocation.expected.map { #"{"key":"\#(invocation.key)","target":"value","op":"=","value":"\#($0)"}"# }
                ?? #"{"key":"\#(invocation.key)","target":"exists","op":"=","value":false}"#
            let put = #"{"put":{"key":"\#(invocation.key)","value":"\#(value)"}}"#
            let document = #"{"compare":[\#(compare)],"success":[\#(put)],"failure":[]}"#
            end.succeeded = try await client.transaction(Array(document.utf8)).succeeded
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
        // A doubt is a doubt: that is what the histories are about.
        options.isExactlyOnce = false
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
