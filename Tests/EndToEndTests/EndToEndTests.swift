import Testing

/// Real processes of the program over real sockets, one suite after the other.
@Suite("End to end", .serialized) struct EndToEndTests {}
