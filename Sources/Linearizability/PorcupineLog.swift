/// Histories of a key-value store with put, append and get, as porcupine keeps them: one EDN map a line.
///
///     {:process 0, :type :invoke, :f :append, :key "4", :value "x 0 1 y"}
///     {:process 0, :type :ok, :f :append, :key "4", :value "x 0 1 y"}
///
/// Keys begin as the empty text. `:fail` says that an operation was not executed, `:info` that its outcome is unknown.
/// The times of the operations are the numbers of the lines.
enum PorcupineLog {
    private struct Event {
        var process: Int?
        var type: EventType?
        var function: String?
        var key: [UInt8]?
        /// nil where `:value` is missing; its payload nil where it is `nil`.
        var value: [UInt8]??
    }

    private struct Request {
        var function: String
        var key: [UInt8]
        var value: [UInt8]?

        var action: AppendModel<UInt8>.Action {
            switch function {
            case "get": .read(value)
            case "put": .write(value)
            default: .append(value ?? [])
            }
        }
    }

    static func parse(_ bytes: [UInt8]) throws(MalformedHistory) -> [[UInt8]: History<AppendModel<UInt8>>] {
        var histories: [[UInt8]: History<AppendModel<UInt8>>] = [:]
        var pairing = Pairing<Request>()
        func append(_ process: Int, _ start: Int, _ returned: Int?, _ request: Request) {
            histories[request.key, default: History(AppendModel(initial: []))].append(
                Operation(
                    client: process,
                    call: UInt64(start),
                    returned: returned.map { UInt64($0) },
                    action: request.action
                )
            )
        }
        for (number, line) in Lines(bytes) where !line.isEmpty {
            do throws(MalformedLine) {
                let (process, type, named) = try event(line)
                if type == .invoke {
                    try pairing.invoke(process, named, line: number)
                    continue
                }
                var (start, request) = try pairing.complete(process)
                guard request.function == named.function, request.key == named.key else {
                    throw MalformedLine("it ends the operation of line \(start), which is another one")
                }
                if type == .ok && request.function == "get" {
                    guard named.value != nil else { throw MalformedLine("the answer to :get has no :value") }
                    request.value = named.value
                }
                if type == .fail || (type == .info && request.function == "get") { continue }
                append(process, start, type == .ok ? number : nil, request)
            } catch {
                throw MalformedHistory(line: number, error.reason)
            }
        }
        for (process, line, request) in pairing.rest where request.function != "get" {
            append(process, line, nil, request)
        }
        return histories
    }

    private static func event(_ line: ArraySlice<UInt8>) throws(MalformedLine) -> (Int, EventType, Request) {
        var scanner = Scanner(line)
        var event = Event()
        scanner.skipSpace()
        try scanner.expect("{")
        scanner.skipSpace(andCommas: true)
        while !scanner.take("}") {
            try member(&scanner, into: &event)
            scanner.skipSpace(andCommas: true)
        }
        scanner.skipSpace()
        guard scanner.isAtEnd else { throw MalformedLine("something is left over\(scanner.here)") }
        guard let process = event.process else { throw MalformedLine(":process is missing") }
        guard let type = event.type else { throw MalformedLine(":type is missing") }
        guard let function = event.function else { throw MalformedLine(":f is missing") }
        guard let key = event.key else { throw MalformedLine(":key is missing") }
        let value = event.value ?? nil
        if type == .invoke, function != "get", value == nil {
            throw MalformedLine(":\(function) has no :value in quotation marks")
        }
        return (process, type, Request(function: function, key: key, value: value))
    }

    private static func member(_ scanner: inout Scanner, into event: inout Event) throws(MalformedLine) {
        try scanner.expect(":")
        let name = scanner.word()
        scanner.skipSpace()
        switch name {
        case "process": event.process = try scanner.process()
        case "type":
            try scanner.expect(":")
            let type = scanner.word()
            event.type = EventType(rawValue: type)
            if event.type == nil { throw MalformedLine("“:\(type)” is none of :invoke, :ok, :fail and :info") }
        case "f":
            try scanner.expect(":")
            let function = scanner.word()
            event.function = function
            guard ["get", "put", "append"].contains(function) else {
                throw MalformedLine("“:\(function)” is none of :get, :put and :append")
            }
        case "key": event.key = try scanner.quoted()
        case "value": event.value = .some(scanner.take("nil") ? nil : try scanner.quoted())
        default: throw MalformedLine("the member “:\(name)” is not known")
        }
    }
}
