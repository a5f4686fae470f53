function __fish_cueball_print_command
    set -l cmdline (commandline -poc)
    set -l cmd
    set -e cmdline[1]
    for arg in $cmdline
        switch $arg
            case help
                set cmd $cmd help
                break
            case attach
                set cmd $cmd attach
                break
            case repl
                set cmd $cmd repl
                break
            case resolve
                set cmd $cmd resolve
                break
            case run
                set cmd $cmd run
                break
            case bench
                set cmd $cmd bench
                break
            case top
                set cmd $cmd top
                break
            case completions
                set cmd $cmd completions
                break
        end
    end
    echo "$cmd"
end

function __fish_cueball_using_command
    test (__fish_cueball_print_command) = "$argv"
    and return 0
    or return 1
end

function __fish_cueball_seen_command
    string match -q "$argv*" (__fish_cueball_print_command)
    and return 0
    or return 1
end

complete -c cueball -n '__fish_cueball_using_command' -xa 'help' -d 'Print the help of a command'
complete -c cueball -n '__fish_cueball_using_command' -xa 'attach' -d 'A prompt in a program that runs, over its console'
complete -c cueball -n '__fish_cueball_using_command' -xa 'repl' -d 'A prompt for Lua and pools, on the event loop or in virtual time'
complete -c cueball -n '__fish_cueball_using_command' -xa 'resolve' -d 'Find the nodes of a service, once or as they change'
complete -c cueball -n '__fish_cueball_using_command' -xa 'run' -d 'Run a Lua script in the event loop'
complete -c cueball -n '__fish_cueball_using_command' -xa 'bench' -d 'Put load on a pool and measure it'
complete -c cueball -n '__fish_cueball_using_command' -xa 'top' -d 'Watch the pools of a running program'
complete -c cueball -n '__fish_cueball_using_command' -xa 'completions' -d 'Print completion for a shell'
complete -c cueball -s h -l help -d 'Print this, or with a command its help'
complete -c cueball -s V -l version -d 'Print the versions of cueball and what it stands on'

complete -c cueball -n '__fish_cueball_seen_command help' -s h -l help -d 'Print this'

complete -c cueball -n '__fish_cueball_seen_command attach' -s h -l help -d 'Print this'
complete -c cueball -n '__fish_cueball_seen_command attach' -s e -l execute -r -d 'Run this, and end; as often as you like, in order'
complete -c cueball -n '__fish_cueball_seen_command attach' -l json -d 'Show results as JSON'
complete -c cueball -n '__fish_cueball_seen_command attach' -l lua -d 'Show results as Lua that can be pasted'
complete -c cueball -n '__fish_cueball_seen_command attach' -l token-file -r -d 'The file that has the token; or set CUEBALL_TOKEN'
complete -c cueball -n '__fish_cueball_seen_command attach' -l worker -r -d 'The worker of nginx with this number'
complete -c cueball -n '__fish_cueball_seen_command attach' -l path -r -d 'The location in nginx (default: /console)'
complete -c cueball -n '__fish_cueball_seen_command attach' -l no-history -d 'Neither read nor write the file of what was typed'
complete -c cueball -n '__fish_cueball_seen_command attach' -l editor -xa 'auto readline own plain' -d 'readline, own or plain; auto is readline, by lua-readline,'

complete -c cueball -n '__fish_cueball_seen_command repl' -s h -l help -d 'Print this'
complete -c cueball -n '__fish_cueball_seen_command repl' -s e -l execute -r -d 'Run this, and end; as often as you like, in order'
complete -c cueball -n '__fish_cueball_seen_command repl' -s i -l interactive -d 'With -e: go on with a prompt on the terminal'
complete -c cueball -n '__fish_cueball_seen_command repl' -l sim -d 'In virtual time, on a network of the simulator\'s'
complete -c cueball -n '__fish_cueball_seen_command repl' -l seed -r -d 'Of all chance there is with --sim'
complete -c cueball -n '__fish_cueball_seen_command repl' -l no-history -d 'Neither read nor write the file of what was typed'
complete -c cueball -n '__fish_cueball_seen_command repl' -l editor -xa 'auto readline own plain' -d 'readline, own or plain; auto is readline, by lua-readline,'

complete -c cueball -n '__fish_cueball_seen_command resolve' -s h -l help -d 'Print this'
complete -c cueball -n '__fish_cueball_seen_command resolve' -s s -l service -r -d 'SRV records to ask for [_http._tcp]; none: addresses only (default: _http._tcp)'
complete -c cueball -n '__fish_cueball_seen_command resolve' -s p -l port -r -d 'Port of nodes that SRV records do not name'
complete -c cueball -n '__fish_cueball_seen_command resolve' -s r -l resolvers -r -d 'Nameservers to ask: IP[:PORT][,...], or the name of a'
complete -c cueball -n '__fish_cueball_seen_command resolve' -s 4 -d 'Only IPv4 addresses, only IPv6 addresses'
complete -c cueball -n '__fish_cueball_seen_command resolve' -s 6 -d 'Only IPv4 addresses, only IPv6 addresses'
complete -c cueball -n '__fish_cueball_seen_command resolve' -s t -l timeout -r -d 'How long it may take: 500ms, 5s, 1m (default: 5000)'
complete -c cueball -n '__fish_cueball_seen_command resolve' -s S -l static -d 'The arguments are addresses: print them as nodes'
complete -c cueball -n '__fish_cueball_seen_command resolve' -s f -l follow -d 'Print each change with its time, until interrupted'
complete -c cueball -n '__fish_cueball_seen_command resolve' -l why -d 'Also say which records and servers each node is from'
complete -c cueball -n '__fish_cueball_seen_command resolve' -l json -d 'JSON: one document, or with -f one a line'
complete -c cueball -n '__fish_cueball_seen_command resolve' -l color -xa 'auto always never' -d 'auto, always or never (default: auto)'

complete -c cueball -n '__fish_cueball_seen_command run' -s h -l help -d 'Print this'
complete -c cueball -n '__fish_cueball_seen_command run' -s e -l execute -r -d 'Run this Lua; cueball is there without require'
complete -c cueball -n '__fish_cueball_seen_command run' -l stop-timeout -r -d 'How long its pools may take to stop: 500ms, 5s (default: 5s)'

complete -c cueball -n '__fish_cueball_seen_command bench' -s h -l help -d 'Print this'
complete -c cueball -n '__fish_cueball_seen_command bench' -s b -l backends -r -d 'IP:PORT[,...], or the name of a service'
complete -c cueball -n '__fish_cueball_seen_command bench' -l tcp -d 'Connections are TCP'
complete -c cueball -n '__fish_cueball_seen_command bench' -l redis -d 'Connections are to Redis'
complete -c cueball -n '__fish_cueball_seen_command bench' -l postgres -d 'Connections are to PostgreSQL'
complete -c cueball -n '__fish_cueball_seen_command bench' -l connect -r -d 'Print this'
complete -c cueball -n '__fish_cueball_seen_command bench' -s m -l max-connections -r -d 'So many connections at most'
complete -c cueball -n '__fish_cueball_seen_command bench' -l set -r -d 'Another option of the pool, such as spares=4'
complete -c cueball -n '__fish_cueball_seen_command bench' -s r -l rate -r -d 'Requests begin at this rate: 2000/s'
complete -c cueball -n '__fish_cueball_seen_command bench' -s c -l concurrency -r -d 'So many at a time at most'
complete -c cueball -n '__fish_cueball_seen_command bench' -l poisson -d 'Requests come by chance, and not at even distances'
complete -c cueball -n '__fish_cueball_seen_command bench' -l hold -r -d 'Keep each connection so long: 5ms, 2ms-8ms (default: 0)'
complete -c cueball -n '__fish_cueball_seen_command bench' -l request -r -d 'What to send: a line for TCP (\\r\\n is understood),'
complete -c cueball -n '__fish_cueball_seen_command bench' -s d -l duration -r -d 'How long it is measured (default: 10s)'
complete -c cueball -n '__fish_cueball_seen_command bench' -s w -l warm-up -r -d 'And before that, not measured (default: 1s)'
complete -c cueball -n '__fish_cueball_seen_command bench' -l sim -d 'No servers: simulated ones, in no time at all'
complete -c cueball -n '__fish_cueball_seen_command bench' -l server -r -d 'How these are: reply_delay=5, refuse=0.1'
complete -c cueball -n '__fish_cueball_seen_command bench' -l seed -r -d 'All chance; the same one gives the same figures'
complete -c cueball -n '__fish_cueball_seen_command bench' -l json -d 'JSON, on one line'
complete -c cueball -n '__fish_cueball_seen_command bench' -s q -l quiet -d 'No line each second on standard error'

complete -c cueball -n '__fish_cueball_seen_command top' -s h -l help -d 'Print this'
complete -c cueball -n '__fish_cueball_seen_command top' -s i -l interval -r -d 'How often to ask: 500ms, 2s (default: 1s)'
complete -c cueball -n '__fish_cueball_seen_command top' -s s -l sort -r -d 'Sort backends by state, current, busy, latency,'
complete -c cueball -n '__fish_cueball_seen_command top' -s f -l filter -r -d 'Only rows that have this text'
complete -c cueball -n '__fish_cueball_seen_command top' -l pool -r -d 'Only this pool'
complete -c cueball -n '__fish_cueball_seen_command top' -l once -d 'Print it once, without the screen; so it does where'
complete -c cueball -n '__fish_cueball_seen_command top' -l token-file -r -d 'The token that the program wants is in this file; or'
complete -c cueball -n '__fish_cueball_seen_command top' -l ca-file -r -d 'With https: who may have signed the certificate, as'
complete -c cueball -n '__fish_cueball_seen_command top' -l color -xa 'auto always never' -d 'auto, always or never (default: auto)'

complete -c cueball -n '__fish_cueball_seen_command completions' -s h -l help -d 'Print this'
