internal import Logging
internal import NIOCore
internal import NIOPosix

/// Lets one line of a kind through in an interval and counts the others, so that a stranger cannot fill the log.
struct RateLimitedLog {
    /// The kinds are few and fixed: nothing that a stranger sends makes this grow.
    enum Kind: Hashable { case garbage, refused, tooMany, violation, handshakeTimeout }

    private var last: [Kind: (time: NIODeadline, suppressed: Int)] = [:]
    private let interval = TimeAmount.seconds(5)

    mutating func warning(
        _ kind: Kind,
        _ message: Logger.Message,
        to logger: Logger,
        now: NIODeadline = .now(),
        metadata: @autoclosure () -> Logger.Metadata
    ) {
        var suppressed = 0
        if let before = last[kind] {
            guard now - before.time >= interval else {
                last[kind]?.suppressed += 1
                return
            }
            suppressed = before.suppressed
        }
        last[kind] = (now, 0)
        var metadata = metadata()
        if suppressed > 0 { metadata["suppressed"] = "\(suppressed)" }
        logger.warning(message, metadata: metadata)
    }
}

/// An error of a connection in a few words.
func shortDescription(_ error: any Error) -> String {
    switch error {
    case let error as TransportError: error.description
    case let error as NIOConnectionError:
        if let first = error.connectionErrors.first {
            shortDescription(first.error)
        } else {
            "the name \(error.host) could not be resolved"
        }
    case let error as ChannelError where error == .eof || error == .ioOnClosedChannel: "the connection was closed"
    case let error as ChannelError:
        if case .connectTimeout = error { "no answer in time" } else { "\(error)" }
    case let error as IOError: "\(error.description)"
    default: "\(error)"
    }
}
