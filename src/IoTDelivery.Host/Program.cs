using IoTDelivery.Host;

// The table of contents: `demo` plays the whole story by itself, `hash-password` prepares a user's setting, everything else is the platform.
return args switch
{
    ["demo", .. var rest] => await Demo.RunAsync(rest),
    ["hash-password"] => HashPassword.Run(Console.In, Console.Out, Console.Error),
    _ => await Platform.RunAsync(args),
};
