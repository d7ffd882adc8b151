public import ArgumentParser
import Foundation
import KontikiClient
public import Logging

/// How log lines look.
enum LogFormat: String, ExpressibleByArgument, CaseIterable {
    /// For people.
    case text
    /// One JSON object a line, for collectors.
    case json
}

extension Logger.Level: @retroactive ExpressibleByArgument {}

/// Writes each event as one line to standard error, whole, so that lines of several threads never mix.
struct LineLogHandler: LogHandler {
    var logLevel: Logger.Level
    var metadata: Logger.Metadata = [:]
    var metadataProvider: Logger.MetadataProvider?
    private let format: LogFormat

    init(level: Logger.Level, format: LogFormat) {
        logLevel = level
        self.format = format
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        var all = metadata
        if let more = metadataProvider?.get() { all.merge(more) { $1 } }
        if let more = event.metadata { all.merge(more) { $1 } }
        if let error = event.error { all["error"] = "\(error)" }
        let pairs = all.sorted { $0.key < $1.key }.map { ($0.key, "\($0.value)") }
        let now = Self.timestamp()
        let line =
            switch format {
            case .text: Self.text(now, event, pairs)
            case .json: Self.json(now, event, pairs)
            }
        Output.write(Array((line + "\n").utf8), to: STDERR_FILENO)
    }

    private static func text(_ now: String, _ event: LogEvent, _ pairs: [(String, String)]) -> String {
        var line =
            "\(now) \(event.level.rawValue.padding(toLength: 8, withPad: " ", startingAt: 0)) \(oneLine(event.message))"
        for (key, value) in pairs {
            let isBare = !value.isEmpty && value.utf8.allSatisfy { $0 > 0x20 && $0 != UInt8(ascii: "\"") && $0 < 0x7F }
            line += isBare ? " \(key)=\(value)" : " \(key)=\(quoted(value))"
        }
        return line
    }

    private static func json(_ now: String, _ event: LogEvent, _ pairs: [(String, String)]) -> String {
        var line = #"{"time":"\#(now)","level":"\#(event.level.rawValue)","message":\#(quoted("\(event.message)"))"#
        for (key, value) in pairs { line += ",\(quoted(key)):\(quoted(value))" }
        return line + "}"
    }

    private static func oneLine(_ message: Logger.Message) -> String {
        Printable.shown("\(message)".replacingOccurrences(of: "\n", with: " "))
    }

    /// A JSON string that a terminal takes for nothing but text, too.
    static func quoted(_ text: String) -> String {
        var bytes: [UInt8] = []
        for byte in text.utf8 {
            if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { bytes.append(UInt8(ascii: "\\")) }
            bytes.append(byte)
        }
        return "\"" + String(decoding: Printable.shown(bytes, as: .json), as: UTF8.self) + "\""
    }

    /// Now in UTC, RFC 3339 with milliseconds.
    static func timestamp() -> String { Date.now.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true)) }
}
