package peer;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.StatementSet;
import org.apache.flink.table.api.TableEnvironment;

/**
 * Runs a file of SQL in one JVM: settings and tables at once, all INSERTs together as one job.
 *
 * <p>{@code ${NAME}} in the file is the environment variable of that name. Prints "started" when the
 * job is submitted and "drained" when it has ended and every row is committed; ends with its input.
 */
public final class Job {
  private static final Pattern VARIABLE = Pattern.compile("\\$\\{(\\w+)}");
  private static final Pattern SETTING = Pattern.compile("SET '([^']+)' = '([^']+)'");

  public static void main(String[] arguments) throws Exception {
    String text = withVariables(Files.readString(Path.of(arguments[0])));
    Configuration configuration = new Configuration();
    Matcher settings = SETTING.matcher(text);
    while (settings.find()) {
      configuration.setString(settings.group(1), settings.group(2));
    }
    TableEnvironment tables =
        TableEnvironment.create(
            EnvironmentSettings.newInstance()
                .inStreamingMode()
                .withConfiguration(configuration)
                .build());
    tables.createTemporarySystemFunction("ITEMS", Items.Rows.class);
    tables.createTemporarySystemFunction("UNITS", Items.Units.class);
    tables.createTemporarySystemFunction("TOTAL_MINOR", Items.TotalMinor.class);
    StatementSet inserts = tables.createStatementSet();
    for (String statement : text.replaceAll("(?m)^--.*$", "").split(";")) {
      String sql = statement.strip();
      if (sql.startsWith("INSERT")) {
        inserts.addInsertSql(sql);
      } else if (!sql.isEmpty() && !sql.startsWith("SET")) {
        tables.executeSql(sql);
      }
    }
    var job = inserts.execute();
    System.out.println("started");
    job.await();
    System.out.println("drained");
    System.in.read(); // lives until it is measured
  }

  private static String withVariables(String text) {
    return VARIABLE
        .matcher(text)
        .replaceAll(
            match -> {
              String value = System.getenv(match.group(1));
              if (value == null) {
                throw new IllegalArgumentException("not set: " + match.group(1));
              }
              return Matcher.quoteReplacement(value);
            });
  }
}
