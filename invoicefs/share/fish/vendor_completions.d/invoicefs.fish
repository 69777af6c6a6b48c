function _invoicefs_completion;
    set -l response (env _INVOICEFS_COMPLETE=fish_complete COMP_WORDS=(commandline -cp) COMP_CWORD=(commandline -t) invoicefs);

    for completion in $response;
        set -l metadata (string split "," $completion);

        if test $metadata[1] = "dir";
            __fish_complete_directories (commandline -t);
        else if test $metadata[1] = "file";
            complete -C"__fish_command_without_completions "(commandline -t);
        else if test $metadata[1] = "plain";
            echo $metadata[2];
        end;
    end;
end;

complete --no-files --command invoicefs --arguments "(_invoicefs_completion)";

