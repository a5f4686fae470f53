_cueball() {
    local IFS=$' \t\n'
    local args cur prev cmd opts arg
    args=("${COMP_WORDS[@]}")
    cur="${COMP_WORDS[COMP_CWORD]}"
    prev="${COMP_WORDS[COMP_CWORD-1]}"
    opts="-h --help -V --version"

    args=("${args[@]:1}")
    for arg in "${args[@]}"; do
        case "$arg" in
            help)
                cmd="help"
                opts="$opts -h --help"
                break
                ;;
            attach)
                cmd="attach"
                opts="$opts -h --help -e --execute --json --lua --token-file --worker --path --no-history --editor"
                break
                ;;
            repl)
                cmd="repl"
                opts="$opts -h --help -e --execute -i --interactive --sim --seed --no-history --editor"
                break
                ;;
            resolve)
                cmd="resolve"
                opts="$opts -h --help -s --service -p --port -r --resolvers -4 -6 -t --timeout -S --static -f --follow --why --json --color"
                break
                ;;
            run)
                cmd="run"
                opts="$opts -h --help -e --execute --stop-timeout"
                break
                ;;
            bench)
                cmd="bench"
                opts="$opts -h --help -b --backends --tcp --redis --postgres --connect -m --max-connections --set -r --rate -c --concurrency --poisson --hold --request -d --duration -w --warm-up --sim --server --seed --json -q --quiet"
                break
                ;;
            top)
                cmd="top"
                opts="$opts -h --help -i --interval -s --sort -f --filter --pool --once --token-file --ca-file --color"
                break
                ;;
            completions)
                cmd="completions"
                opts="$opts -h --help"
                break
                ;;
        esac
    done

    case "$cmd" in
        '')
            COMPREPLY=($(compgen -W "help attach repl resolve run bench top completions" -- "$cur"))
            ;;
        'attach')
            case "$prev" in
                -e|--execute)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --token-file)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --worker)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --path)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --editor)
                    COMPREPLY=($(compgen -W "auto readline own plain" -- "$cur"))
                    return 0
                    ;;
            esac

            ;;
        'repl')
            case "$prev" in
                -e|--execute)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --seed)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --editor)
                    COMPREPLY=($(compgen -W "auto readline own plain" -- "$cur"))
                    return 0
                    ;;
            esac

            ;;
        'resolve')
            case "$prev" in
                -s|--service)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                -p|--port)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                -r|--resolvers)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                -t|--timeout)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "$cur"))
                    return 0
                    ;;
            esac

            ;;
        'run')
            case "$prev" in
                -e|--execute)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --stop-timeout)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
            esac

            ;;
        'bench')
            case "$prev" in
                -b|--backends)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --connect)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                -m|--max-connections)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --set)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                -r|--rate)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                -c|--concurrency)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --hold)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --request)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                -d|--duration)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                -w|--warm-up)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --server)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --seed)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
            esac

            ;;
        'top')
            case "$prev" in
                -i|--interval)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                -s|--sort)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                -f|--filter)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --pool)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --token-file)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --ca-file)
                    COMPREPLY=($(compgen -f -- "$cur"))
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "$cur"))
                    return 0
                    ;;
            esac

            ;;
    esac

    if [[ "$cur" = -* ]]; then
        COMPREPLY=($(compgen -W "$opts" -- "$cur"))
    fi
}

complete -F _cueball -o bashdefault -o default cueball
