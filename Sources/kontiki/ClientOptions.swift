public import ArgumentParser
import Foundation
public import KontikiClient

/// Which nodes a client command asks, and for how long.
struct ClientOptions: ParsableArguments {
    @Option(
        name: [.customShort("e"), .customLong("endpoint")],
        parsing: .singleValue,
        help: ArgumentHelp(
            "A node's HTTP address; repeat it to name several. KONTIKI_ENDPOINTS (comma-separated) when absent.",
            valueName: "url"
        )
    )
    var endpoints: [String] = []

    @Option(help: ArgumentHelp("The time for a request with all its attempts.", valueName: "duration"))
    var timeout = Span(.seconds(15))

    /// Runs `body` with a client and ends it afterwards.
    func withClient<Result: Sendable>(
        _ adjust: (inout KontikiClient.Options) -> Void = { _ in },
        _ body: (KontikiClient) async throws -> Result
    ) async throws -> Result {
        var options = KontikiClient.Options()
        options.totalTimeout = timeout.duration
        options.attemptTimeout = min(timeout.duration, .seconds(5))
        adjust(&options)
        let client = try KontikiClient(endpoints: resolvedEndpoints, options: options)
        do {
            let result = try await body(client)
            await client.shutdown()
            return result
        } catch {
            await client.shutdown()
            throw error
        }
    }

    private var resolvedEndpoints: [String] {
        if !endpoints.isEmpty { return endpoints }
        let named = ProcessInfo.processInfo.environment["KONTIKI_ENDPOINTS"] ?? ""
        let list = named.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
        return list.isEmpty ? ["http://localhost:8001"] : list
    }
}

/// How new what is read must be, as options.
struct FreshnessOptions: ParsableArguments {
    @Option(
        help:
            "strong: as new as every acknowledged write; bounded: no older than --max-stale; stale: what the asked node has, at once."
    )
    var consistency = Consistency.strong
    @Option(
        name: .customLong("min-rev"),
        help: ArgumentHelp("Wait until the asked node has applied this revision.", valueName: "revision")
    )
    var minimumRevision: UInt64?
    @Option(
        name: .customLong("max-stale"),
        help: ArgumentHelp("With bounded: how old the answer may be.", valueName: "duration")
    )
    var maximumStaleness: Span?

    func validate() throws {
        if (consistency == .bounded) != (maximumStaleness != nil) {
            throw ValidationError("--consistency bounded and --max-stale belong together.")
        }
    }
}

/// What is read, as options.
struct ReadOptions: ParsableArguments {
    @OptionGroup var freshness: FreshnessOptions
    @Option(name: .customLong("rev"), help: ArgumentHelp("As it stood at this revision.", valueName: "revision"))
    var revision: UInt64?

    var consistency: Consistency { freshness.consistency }
    var minimumRevision: UInt64? { freshness.minimumRevision }
    var maximumStaleness: Duration? { freshness.maximumStaleness?.duration }
}

extension Consistency: ExpressibleByArgument {}

/// A duration as an argument: `500ms`, `30s`, `5m`, `1h`.
struct Span: ExpressibleByArgument, Hashable, Sendable {
    var duration: Duration

    init(_ duration: Duration) { self.duration = duration }

    init?(argument: String) {
        guard let duration = Duration(nodeText: argument) else { return nil }
        self.duration = duration
    }

    var defaultValueDescription: String {
        let (seconds, attoseconds) = duration.components
        return attoseconds == 0 ? "\(seconds)s" : "\(milliseconds)ms"
    }

    var milliseconds: Int {
        let (seconds, attoseconds) = duration.components
        return Int(seconds) * 1000 + Int(attoseconds / 1_000_000_000_000_000)
    }
}

/// A size as an argument: bytes, or with `k`, `m`, `g` for the powers of 1,024.
struct ByteSize: ExpressibleByArgument, Hashable, Sendable {
    var bytes: Int

    init(_ bytes: Int) { self.bytes = bytes }

    init?(argument: String) {
        let digits = argument.prefix { $0.isASCII && $0.isNumber }
        guard let number = Int(digits), number >= 0, number < 1 << 30 || digits.endIndex == argument.endIndex else {
            return nil
        }
        switch argument[digits.endIndex...].lowercased() {
        case "", "b": bytes = number
        case "k", "kib": bytes = number << 10
        case "m", "mib": bytes = number << 20
        case "g", "gib": bytes = number << 30
        default: return nil
        }
    }

    var defaultValueDescription: String {
        for (shift, unit) in [(30, "g"), (20, "m"), (10, "k")] where bytes > 0 && bytes & ((1 << shift) - 1) == 0 {
            return "\(bytes >> shift)\(unit)"
        }
        return "\(bytes)"
    }
}
