import ArgumentParser
import Foundation
import Logging

struct ServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Run a node.",
        discussion: """
            The first node of a new cluster:
              kontiki serve --id node1 --addr host1:9001 --http host1:8001 \\
                --data /var/lib/kontiki --bootstrap
            Every further one asks any member to be taken in; it becomes a voter when it has caught up:
              kontiki serve --id node2 --addr host2:9001 --http host2:8001 \\
                --data /var/lib/kontiki --join host1:9001
            A new node in the place of a dead one, in one change of the membership:
              kontiki serve --id node4 --addr host4:9001 --http host4:8001 \\
                --data /var/lib/kontiki --join host1:9001,host2:9001 --replace node3
            A node whose log the disk has damaged comes back as a new server with its old name; what is left of the old data is \
            kept in damaged-… below --data. See kontiki check. Where the data is sound, --rejoin does nothing; it comes before --join \
            and --bootstrap:
              kontiki serve --id node3 --addr host3:9001 --http host3:8001 \\
                --data /var/lib/kontiki --rejoin host1:9001,host2:9001

            A node that comes back needs neither --bootstrap nor --join; with data in place both are ignored.

            Each option can stand in the environment as well: --request-timeout is KONTIKI_REQUEST_TIMEOUT, and so on; \
            KONTIKI_BOOTSTRAP=true. The command line comes first. SIGTERM hands leadership over and stops in good order.
            """
    )

    @OptionGroup(title: "Identity and addresses") var identity: IdentityOptions
    @OptionGroup(title: "Bounds and times") var bounds: BoundOptions
    @OptionGroup(title: "Logging") var logging: LoggingOptions

    @Flag(help: .hidden) var stopWithStdin = false

    func run() async throws {
        try identity.checkBeginning()
        logging.bootstrap()
        CrashMessage.install(directory: identity.data)
        var logger = Logger(label: "kontiki")
        logger[metadataKey: "node"] = "\(identity.id)"
        let lifecycle = ServeLifecycle(logger: logger)
        let signals = StopSignals(watchingStandardInput: stopWithStdin) { lifecycle.stop($0) }
        defer { withExtendedLifetime(signals) {} }
        let manager = ServiceManager(environment: ProcessInfo.processInfo.environment)
        manager?.notify("STATUS=starting")
        let node = try await NodeWiring.start(identity, bounds, logger: logger)
        lifecycle.started()
        let announcement = Task { [logger] in await announce(node, manager, logger) }
        let cause = await lifecycle.stopRequest()
        announcement.cancel()
        manager?.notify("STOPPING=1\nSTATUS=handing over and stopping")
        logger.notice("stopping in good order", metadata: ["cause": "\(cause)"])
        await node.stop()
        logger.notice("stopped")
    }

    /// Says READY when `/readyz` does. A node that catches up asks for more time as long as that takes. Where something else is lacking, the
    /// others say, READY comes after a while all the same: stale reads are answered, and a service manager that starts it over and over would
    /// not help.
    private func announce(_ node: NodeWiring, _ manager: ServiceManager?, _ logger: Logger) async {
        let clock = ContinuousClock()
        var deadline = clock.now + bounds.readyTimeout.duration
        var (told, nextWord) = ("", clock.now)
        while let lacking = node.lacking, clock.now < deadline, !Task.isCancelled {
            let isCatchingUp = node.isCatchingUp
            if isCatchingUp { deadline = clock.now + bounds.readyTimeout.duration }
            if clock.now >= nextWord, isCatchingUp || lacking != told {
                (told, nextWord) = (lacking, clock.now + .seconds(1))
                // A minute from each word, which is repeated long before: see sd_notify(3).
                manager?.notify("STATUS=\(lacking)" + (isCatchingUp ? "\nEXTEND_TIMEOUT_USEC=60000000" : ""))
            }
            try? await Task.sleep(for: .milliseconds(50))
        }
        if Task.isCancelled { return }
        if let lacking = node.lacking {
            manager?.notify("READY=1\nSTATUS=not ready to be counted on: \(lacking)")
            logger.warning("not ready, and goes on without", metadata: ["lacking": "\(lacking)"])
        } else {
            manager?.notify("READY=1\nSTATUS=serving")
            logger.notice("serving", metadata: ["http": "\(identity.http)", "peers": "\(identity.addr)"])
        }
    }
}

/// Who the node is and where it is reached.
struct IdentityOptions: ParsableArguments {
    @Option(help: "The node's name, unique in the cluster.") var id: String
    @Option(help: ArgumentHelp("Where peers reach this node.", valueName: "host:port")) var addr: String
    @Option(
        help: ArgumentHelp(
            "Where to listen for peers, when that is not --addr (NAT, containers).",
            valueName: "host:port"
        )
    )
    var listen: String?
    @Option(help: ArgumentHelp("Where clients reach this node.", valueName: "host:port")) var http: String
    @Option(help: ArgumentHelp("Where to listen for clients, when that is not --http.", valueName: "host:port"))
    var httpListen: String?
    @Option(help: ArgumentHelp("The data directory.", valueName: "dir")) var data: String
    @Flag(help: "On an empty data directory: make a new cluster of this one node.") var bootstrap = false
    @Option(
        help: ArgumentHelp("On an empty data directory: ask these members to be taken in.", valueName: "host:port,…")
    )
    var join: String?
    @Option(help: ArgumentHelp("With --join: take the place of this member.", valueName: "name")) var replace: String?
    @Option(
        help: ArgumentHelp(
            "If the data is damaged beyond repair: join as a new server in the place of the old one, through these members.",
            valueName: "host:port,…"
        )
    )
    var rejoin: String?

    func validate() throws {
        guard !id.isEmpty, id.utf8.count <= 128 else { throw ValidationError("--id must have 1 to 128 bytes.") }
        for (flag, value) in [("--addr", addr), ("--listen", listen ?? addr)] {
            _ = try HostAndPort(value, of: flag)
        }
        for (flag, value) in [("--http", http), ("--http-listen", httpListen ?? http)] {
            _ = try HostAndPort(value, of: flag)
        }
        if bootstrap && join != nil { throw ValidationError("--bootstrap and --join exclude each other.") }
        if rejoin != nil && rejoinAddresses.isEmpty { throw ValidationError("--rejoin names no address.") }
        for address in rejoinAddresses { _ = try HostAndPort(address, of: "--rejoin") }
        if replace != nil && join == nil { throw ValidationError("--replace needs --join.") }
        for address in joinAddresses { _ = try HostAndPort(address, of: "--join") }
        if join != nil && joinAddresses.isEmpty { throw ValidationError("--join names no address.") }
    }

    var joinAddresses: [String] { Self.addresses(join) }
    var rejoinAddresses: [String] { Self.addresses(rejoin) }

    private static func addresses(_ list: String?) -> [String] {
        (list ?? "").split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
    }

    /// Ends the command where nothing is there to start from, before anything is created.
    func checkBeginning() throws {
        guard !bootstrap, join == nil, rejoin == nil, !FileManager.default.fileExists(atPath: data + "/log") else {
            return
        }
        throw Failure(
            .configuration,
            """
            \(data) holds no data of a node, and nothing says how to begin. Go on with one of these:
              --bootstrap            make a new cluster, of which this is the first node
              --join HOST:PORT,…     join the cluster that these nodes belong to (their --addr)
            If this node had data before, look whether --data names the right directory. A node whose disk was lost comes back \
            as a new one: --join HOST:PORT --replace \(id)
            """
        )
    }
}

/// How much and how long.
struct BoundOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The shortest time without a leader before an election.", valueName: "duration"))
    var electionTimeout = Span(.milliseconds(400))
    @Option(help: ArgumentHelp("The time between two heartbeats.", valueName: "duration"))
    var heartbeat = Span(.milliseconds(60))
    @Option(help: ArgumentHelp("How long a request may take that does not say.", valueName: "duration"))
    var requestTimeout = Span(.seconds(5))
    @Option(
        help: ArgumentHelp(
            "Say READY to the service manager after this time even when no leader is known.",
            valueName: "duration"
        )
    )
    var readyTimeout = Span(.seconds(20))
    @Option(help: ArgumentHelp("The largest value.", valueName: "size")) var maxValueBytes = ByteSize(1 << 20)
    @Option(help: ArgumentHelp("Take a snapshot when the log has grown by this much.", valueName: "size"))
    var snapshotLogBytes = ByteSize(64 << 20)
    @Option(
        help: ArgumentHelp(
            "Keep this much of the log before a snapshot for nodes that lag a little.",
            valueName: "size"
        )
    )
    var trailingLogBytes = ByteSize(16 << 20)
    @Option(
        help: ArgumentHelp(
            "Make the state durable when this much of it is in memory only; sooner where that would change more than 70,000 pages of the disk.",
            valueName: "size"
        )
    )
    var memtableBytes = ByteSize(32 << 20)
    @Option(
        help: ArgumentHelp(
            "Keep the past of keys for so long, for reads at a revision and watches that resume.",
            valueName: "duration"
        )
    )
    var historyAge = Span(.seconds(3600))
    @Option(help: ArgumentHelp("Keep at most so many changes of the past.", valueName: "count"))
    var historyEvents = 1_000_000
    @Option(help: ArgumentHelp("Keep at most this much of the past.", valueName: "size"))
    var historyBytes = ByteSize(128 << 20)
    @Option(help: ArgumentHelp("A bound on a snapshot's transfer per second; 0 for none.", valueName: "size"))
    var snapshotRate = ByteSize(64 << 20)
    @Option(help: ArgumentHelp("A bound on the writing of a snapshot per second; 0 for none.", valueName: "size"))
    var snapshotWriteRate = ByteSize(64 << 20)

    @Option(
        help: ArgumentHelp(
            """
            When to look at every page and record of the state's file: before the node starts (about a second a GB that the system has \
            in memory, as long as the disk takes otherwise), or in the background while it serves: for states of many GB, where a \
            start would take minutes. A damaged page may then be met first by a request, which ends the process.
            """,
            valueName: "start|background"
        )
    )
    var verifyState = StateVerification.start
    @Option(
        help: ArgumentHelp(
            "Read all files again this often, slowly, to find what the disk has damaged; 0s for never.",
            valueName: "duration"
        )
    )
    var scrubPeriod = Span(.seconds(86_400))

    /// One tick of the core, in milliseconds.
    static let tickMilliseconds = 20

    func validate() throws {
        guard (100...60_000).contains(electionTimeout.milliseconds) else {
            throw ValidationError("--election-timeout must be from 100ms to 60s.")
        }
        guard heartbeat.milliseconds >= Self.tickMilliseconds,
            heartbeat.milliseconds * 2 <= electionTimeout.milliseconds
        else {
            throw ValidationError(
                "--heartbeat must be at least \(Self.tickMilliseconds)ms and at most half of --election-timeout."
            )
        }
        guard (1...3_600_000).contains(requestTimeout.milliseconds) else {
            throw ValidationError("--request-timeout must be from 1ms to 1h.")
        }
        guard (1...64 << 20).contains(maxValueBytes.bytes) else {
            throw ValidationError("--max-value-bytes must be from 1 to 64m.")
        }
        guard historyEvents >= 0 else { throw ValidationError("--history-events must not be negative.") }
        guard snapshotLogBytes.bytes >= 4 << 10, memtableBytes.bytes >= 4 << 10 else {
            throw ValidationError("--snapshot-log-bytes and --memtable-bytes must be at least 4k.")
        }
    }
}

/// When the state's file is examined.
enum StateVerification: String, ExpressibleByArgument, CaseIterable { case start, background }

/// What is logged, and how.
struct LoggingOptions: ParsableArguments {
    @Option(help: "What is logged: this and what is worse.") var logLevel = Logger.Level.info
    @Option(help: "For people, or a JSON object a line.") var logFormat = LogFormat.text

    func bootstrap() {
        let (level, format) = (logLevel, logFormat)
        LoggingSystem.bootstrap { _ in LineLogHandler(level: level, format: format) }
    }
}

/// An address of the form `host:port`; an IPv6 address stands in brackets.
struct HostAndPort {
    var host: String
    var port: Int

    init(_ text: String, of flag: String) throws {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
            throw ValidationError("\(flag) must be host:port, not “\(text)”.")
        }
        var host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = host.dropFirst().dropLast()
        } else if host.contains(":") {
            throw ValidationError("\(flag): an IPv6 address stands in brackets, like [::1]:9001.")
        }
        guard !host.isEmpty else { throw ValidationError("\(flag) must name a host, like localhost:\(port).") }
        self.host = String(host)
        self.port = Int(port)
    }
}
