import ArgumentParser
import Foundation
import KontikiClient

/// The program's exit codes, those of sysexits.h where one fits.
enum ExitStatus: Int32, CaseIterable {
    case done = 0
    /// The request was answered, and the answer is no: no such key, a condition that does not hold, a request refused.
    case no = 1
    /// There is no verdict: a history or a directory cannot be examined.
    case undecided = 2
    /// Wrong usage (EX_USAGE).
    case usage = 64
    /// Wrong or damaged data (EX_DATAERR).
    case data = 65
    /// An input file cannot be read (EX_NOINPUT).
    case noInput = 66
    /// No node can be reached, or an address is in use (EX_UNAVAILABLE).
    case unavailable = 69
    /// The node failed (EX_SOFTWARE).
    case software = 70
    /// Reading or writing a file failed (EX_IOERR).
    case io = 74
    /// Trying again later may help: a directory in use, an outcome that is unknown (EX_TEMPFAIL).
    case temporary = 75
    /// The configuration is not enough to start (EX_CONFIG).
    case configuration = 78

    private var meaning: [String] {
        switch self {
        case .done: ["done"]
        case .no:
            [
                "the answer is no: no such key, a condition that does not hold,",
                "a request refused, a history or a simulation that breaks a rule,",
                "a data directory that is damaged",
            ]
        case .undecided:
            ["kontiki verify: no verdict on a file; kontiki check: the", "directory cannot be examined"]
        case .usage: ["wrong usage"]
        case .data: ["wrong or damaged data"]
        case .noInput: ["an input file cannot be read"]
        case .unavailable: ["no node can be reached, or an address is in use"]
        case .software: ["the node failed"]
        case .io: ["reading or writing a file failed"]
        case .temporary: ["try again later: a directory in use, an outcome that is unknown, a lock that", "was lost"]
        case .configuration: ["the configuration is not enough to start"]
        }
    }

    /// All of them, for people.
    static var explanation: String {
        allCases.flatMap { status in
            status.meaning.enumerated().map { line, text in
                let number = line == 0 ? "\(status.rawValue)" : ""
                return "  " + String(repeating: " ", count: 2 - number.count) + number + "  " + text
            }
        }.joined(separator: "\n")
    }

    init(_ error: ClientError) {
        if error.outcome == .unknown {
            self = .temporary
            return
        }
        self =
            switch error.code {
            case .invalidArgument: .usage
            case .unavailable, .storageFull, .timedOut, .connectionLost: .unavailable
            case .badAnswer: .software
            case .cancelled: .temporary
            default: .no
            }
    }
}

/// What ends the program: a message for the operator, and the exit code.
struct Failure: Error {
    var status: ExitStatus
    var message: String

    init(_ status: ExitStatus, _ message: String) {
        self.status = status
        self.message = message
    }
}

/// Writes a line to standard error. What it quotes of others, a terminal takes for nothing but text.
func say(_ line: String) {
    Output.write(Array((Printable.shown(line, keepingLines: true) + "\n").utf8), to: STDERR_FILENO)
}

/// Raw output.
enum Output {
    /// Writes all of `bytes`; false when nobody reads any more or the file cannot take it.
    @discardableResult
    static func write(_ bytes: some Collection<UInt8>, to descriptor: Int32 = STDOUT_FILENO) -> Bool {
        var rest = Array(bytes)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Foundation.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { return false }
            rest = rest.dropFirst(count)
        }
        return true
    }

    /// Writes to standard output or ends the command.
    static func emit(_ bytes: some Collection<UInt8>) throws {
        guard write(bytes) else {
            throw Failure(.io, "writing to standard output failed: \(String(cString: strerror(errno)))")
        }
    }

    /// Writes a line of words of our own; what it quotes of others is nothing but text.
    static func emit(line: String) throws { try emit((Printable.shown(line, keepingLines: true) + "\n").utf8) }
}
