/// The log of a Jepsen run against one compare-and-set register of etcd, as ahorn/linearizability-checker and
/// porcupine keep them:
///
///     INFO  jepsen.util - 3	:invoke	:cas	[1 4]
///     INFO  jepsen.util - 3	:fail	:cas	[1 4]
///
/// Processes, `:invoke`, `:ok`, `:fail` or `:info`, and `:read`, `:write` or `:cas` with their values. A failed `:cas`
/// says that the value was another one; `:fail` of another function, that it was not executed. After `:info` the
/// outcome is unknown. The times of the operations are the numbers of the lines.
enum JepsenLog {
    private enum Request {
        case read
        case write(Int64)
        case compareAndSet(Int64, Int64)

        var action: RegisterModel.Action {
            switch self {
            case .read: .read(nil)
            case .write(let value): .write(value)
            case .compareAndSet(let expected, let new):
                .compareAndSet(expected: expected, new: new, succeeded: true)
            }
        }
    }

    static func parse(_ bytes: [UInt8]) throws(MalformedHistory) -> History<RegisterModel> {
        var history = History(RegisterModel())
        var pairing = Pairing<Request>()
        for (number, line) in Lines(bytes) where !line.isEmpty {
            do throws(MalformedLine) {
                try add(line, number, to: &history, &pairing)
            } catch {
                throw MalformedHistory(line: number, error.reason)
            }
        }
        for (process, line, request) in pairing.rest {
            history.append(Operation(client: process, call: UInt64(line), returned: nil, action: request.action))
        }
        return history
    }

    private static func add(
        _ line: ArraySlice<UInt8>,
        _ number: Int,
        to history: inout History<RegisterModel>,
        _ pairing: inout Pairing<Request>
    ) throws(MalformedLine) {
        var scanner = Scanner(line)
        try scanner.expect("INFO")
        scanner.skipSpace()
        try scanner.expect("jepsen.util - ")
        let process = try scanner.process()
        let typeName = try keyword(&scanner)
        guard let type = EventType(rawValue: typeName) else {
            throw MalformedLine("“:\(typeName)” is none of :invoke, :ok, :fail and :info")
        }
        let function = try keyword(&scanner)
        guard ["read", "write", "cas"].contains(function) else {
            throw MalformedLine("“:\(function)” is none of :read, :write and :cas")
        }
        scanner.skipSpace()
        if type == .invoke {
            try pairing.invoke(process, try request(function, &scanner), line: number)
            return try end(&scanner)
        }
        let (start, request) = try pairing.complete(process)
        let action: RegisterModel.Action?
        switch (type, request, function) {
        case (.ok, .read, "read"): action = .read(try value(&scanner))
        case (.ok, .write, "write"), (.ok, .compareAndSet, "cas"): action = request.action
        case (.fail, .compareAndSet(let expected, let new), "cas"):
            action = .compareAndSet(expected: expected, new: new, succeeded: false)
        case (.fail, .read, "read"), (.fail, .write, "write"): action = nil
        case (.info, .read, "read"): action = nil
        case (.info, .write, "write"), (.info, .compareAndSet, "cas"): action = request.action
        default: throw MalformedLine("it ends the operation of line \(start), which is not a “:\(function)”")
        }
        guard let action else { return }
        let returned = type == .info ? nil : UInt64(number)
        history.append(Operation(client: process, call: UInt64(start), returned: returned, action: action))
    }

    private static func keyword(_ scanner: inout Scanner) throws(MalformedLine) -> String {
        scanner.skipSpace()
        try scanner.expect(":")
        return scanner.word()
    }

    private static func request(_ function: String, _ scanner: inout Scanner) throws(MalformedLine) -> Request {
        switch function {
        case "read":
            try scanner.expect("nil")
            return .read
        case "write": return .write(try scanner.integer())
        default:
            try scanner.expect("[")
            let expected = try scanner.integer()
            scanner.skipSpace(andCommas: true)
            let new = try scanner.integer()
            try scanner.expect("]")
            return .compareAndSet(expected, new)
        }
    }

    private static func value(_ scanner: inout Scanner) throws(MalformedLine) -> Int64? {
        let value = scanner.take("nil") ? nil : try scanner.integer()
        try end(&scanner)
        return value
    }

    private static func end(_ scanner: inout Scanner) throws(MalformedLine) {
        scanner.skipSpace()
        guard scanner.isAtEnd else { throw MalformedLine("something is left over\(scanner.here)") }
    }
}
