import ArgumentParser
import Foundation
import KontikiClient

/// What a command prints of what clients stored, as an option.
struct DisplayOptions: ParsableArguments {
    @Flag(
        name: .long,
        help: "Print what is stored exactly as it is, also to a terminal, which may take some of it for commands."
    )
    var raw = false

    var display: Display { Display(isRaw: raw) }
}

/// Prints what clients stored to standard output. On a terminal, what the terminal could take for a command is shown as an escape; into
/// a file or a pipe values go as they are. What stands on a line never ends it, wherever it goes.
struct Display {
    /// As it is, whatever it does.
    var isRaw = false

    /// Whether somebody looks at it.
    static let isTerminal = isatty(STDOUT_FILENO) == 1

    private var shows: Bool { Self.isTerminal && !isRaw }

    /// A value by itself, whose own lines stay lines.
    func emit(value: [UInt8]) throws {
        try Output.emit(shows ? Printable.shown(value, keeping: Self.layout) : value)
    }

    /// A line of fields, with tabs in between. In a field, tabs and line ends are escapes, and so is the backslash.
    func emit(fields: [[UInt8]]) throws {
        let line = fields.map { isRaw ? $0 : TabSeparated.escaped($0) }.joined(separator: [0x09]) + [0x0A]
        try emit(line: Array(line))
    }

    /// A line in which nothing but its end is one.
    func emit(line: [UInt8]) throws {
        try Output.emit(shows ? Printable.shown(line, keeping: Self.layout) : line)
    }

    /// JSON, whose meaning stays the same.
    func emit(json: [UInt8]) throws {
        try Output.emit(shows ? Printable.shown(json, keeping: Self.layout, as: .json) : json)
    }

    func emit(json: String) throws { try emit(json: Array((json + "\n").utf8)) }

    private static let layout = Array("\n\t".utf8)
}
