import { problemOf } from "../../api/problem";
import { Failure } from "../../components/Failure";

/** What went wrong in a page; the frame stays. */
export function PageError({ error, reset }: { error: unknown; reset: () => void }) {
  return <Failure problem={problemOf(error)} retry={reset} />;
}
