r"""Pairs of mathematical answers with the verdict that they deserve, by kind: `SAME` are equal, `DIFFERENT` are not.

A line is "one | other". Verdicts were decided before any program was asked; `test_equality.py` says where math-verify differs.
"""

# ruff: noqa: RUF001  (look-alike characters are the point)

from __future__ import annotations

SAME: dict[str, str] = {
    "lists": r"""
        12, 7, 45 | 45, 12, 7
        250, 40 | 40, 250
        250,40 | 40, 250
        7 and 45 | 45, 7
        x=2 \text{ or } x=-7 | -7, 2
        2, -7 | x = -7, 2
        x = 2, x = -7 | \{2, -7\}
        1; 2; 3 | 3, 2, 1
        1, 2, \text{and } 3 | 3,2,1
        \frac12, 0.25 | 1/4, 1/2
        \sqrt{2}, -\sqrt2 | -\sqrt{2}, \sqrt{2}
        \pm 3 | 3, -3
        x = \pm\sqrt{5} | \sqrt5, -\sqrt5
        \frac{-1\pm\sqrt5}{2} | \frac{-1+\sqrt5}{2}, \frac{-1-\sqrt5}{2}
        2 \pm i | 2-i, 2+i
        1,000, 2,000 | 2000, 1000
        100, 200 | 100,200
        \text{red, blue} | blue, red
        0, \pm 2 | -2, 0, 2
        (1,2), (3,4) | (3,4), (1,2)
        (1,2) \text{ and } (3,4) | (3, 4),(1, 2)
        -1,\ 4 | 4,-1
        """,
    "thousands": r"""
        1,234 | 1234
        1{,}234{,}567 | 1,234,567
        12\,345 | 12345
        1,\!234.5 | 1234.5
        \$1,250 | 1250
        -12,000 | -12000
        1,234 | 1, 234
        \frac{1{,}000}{3} | \frac{1000}{3}
        """,
    "sets": r"""
        \{1,2,3\} | \{3,2,1\}
        \{1, 1, 2\} | \{2, 1\}
        \left\{ -1, \frac{3}{2} \right\} | \{1.5, -1\}
        \lbrace 4, 9 \rbrace | 9, 4
        \emptyset | \{\}
        ∅ | \varnothing
        \text{empty set} | \emptyset
        \{5\} | 5
        x \in \{1, 2\} | 1, 2
        {-2, 5} | 5, -2
        """,
    "tuples": r"""
        (1,2) | \left( 1,\ 2 \right)
        (100,200) | (100, 200)
        (x,y) = (3,-4) | (3,-4)
        x=3, y=-4 | (3,-4)
        y=-4, x=3 | (3,-4)
        1, 5, 9 | (1,5,9)
        \langle 2, 5 \rangle | (2,5)
        (0.5, \sqrt{8}) | \left(\frac12, 2\sqrt2\right)
        P = (2, 3) | (2,3)
        ⟨1, 2⟩ | (1, 2)
        """,
    "intervals and inequalities": r"""
        [1,\infty) | x \ge 1
        (-3, 5] | -3 < x \le 5
        x > 2 | 2 < x
        x\leq 4 | (-\infty, 4]
        (2, ∞) | x > 2
        ]1,2[ | (1,2)
        [0, 1) | 0 \leqslant x < 1
        2x > 6 | x > 3
        x \in [-1, 4] | -1 \le x \le 4
        x>1 \text{ and } x<3 | (1,3)
        x > 1, x < 3 | 1 < x < 3
        (-\infty,\infty) | \mathbb{R}
        ℝ | \text{all real numbers}
        \left[\frac12, \sqrt3\right) | [0.5, \sqrt{3})
        |x| < 3 | (-3,3)
        """,
    "unions": r"""
        (-\infty,0) \cup (0,\infty) | x \ne 0
        x \leq 1 \text{ or } x \geq 5 | (-\infty,1] \cup [5,\infty)
        (5,7) \cup (-1,2) | (-1,2) \cup (5,7)
        (-∞, -2) ∪ (2, ∞) | x < -2 or x > 2
        x<0, x>4 | (-\infty,0)\cup(4,\infty)
        [1,2] \cup [2,3] | [1,3]
        (-\infty, 3) \cup (3, \infty) | \mathbb{R} \setminus \{3\}
        x \in (0,1) \cup (2,3) | (2,3)\cup(0,1)
        (-\infty, -4) U (1, \infty) | (-\infty,-4) \cup (1,\infty)
        x < 3 \text{ or } x = 5 | (-\infty,3) \cup \{5\}
        x < -3 \lor x > 3 | (-\infty,-3) \cup (3,\infty)
        (0,5) \cap (2,9) | (2,5)
        \left(-\infty, \frac{1-\sqrt5}{2}\right) \cup (2,\infty) | x < \frac{1-\sqrt{5}}{2} \text{ or } x > 2
        """,
    "number words": r"""
        4.5\text{ million} | 4500000
        \$2 \text{ billion} | 2,000,000,000
        7 \text{ thousand} | 7{,}000
        3 dozen | 36
        two dozen | 24
        a million | 10^6
        \text{twenty-one thousand} | 21000
        12 \text{ hundred} | 1200
        1.5 million dollars | 1500000
        25\text{ percent} | 25\%
        25 percent | \frac14
        8 \text{ or more} | \text{at least } 8
        8 \text{ people or more} | \text{at least 8 people}
        \text{at most } 6 | 6 \text{ or fewer}
        \text{more than } 9 | \text{greater than } 9
        n \ge 8 | 8 \text{ or more}
        \text{about } 20 | 20
        """,
    "upright constants": r"""
        3+2\mathrm{i} | 3+2i
        6-5\mathrm i | 6-5{\rm i}
        \mathrm{e}^{2} | e^2
        \mathrm{i} | i
        4\text{i} - 1 | -1+4i
        2\,\mathrm{e} | 2e
        (1+\mathrm{i})(1-\mathrm{i}) | 2
        \operatorname{sin} x | \sin x
        3\mathbf{i} | 3i
        """,
    "units": r"""
        5cm | 5
        7 kg | 7\text{ kg}
        12 \text{ square inches} | 12\text{ in}^2
        12\text{ cm}^2 | 12
        \text{15 miles} | 15 \text{ mi}
        9\,\mathrm{m/s} | 9
        45^\circ | 45
        45° | 45\text{ degrees}
        60 km/h | 60
        $18 | 18
        18 dollars | \$18.00
        £7 | 7
        €7.50 | 7.5
        3 apples | 3
        100\text{ cm} | 1\text{ m}
        90 \text{ minutes} | 1.5 \text{ hours}
        12\pi\text{ cm}^3 | 12\pi
        \frac{3}{4}\text{ cup} | 0.75
        240 \text{ ways} | 240
        5\text{ m} | 5 \, \mathrm{m}
        20 mph | 20 \text{ miles per hour}
        3\text{ cm}, 4\text{ cm} | 4, 3
        5 red cars | 5
        10 m/s | 10
        7 times | 7
        7^{\text{th}} | 7
        18\text{ units}^2 | 18 \text{ square units}
        -\$5 | -5
        30^\circ\text{C} | 30
        """,
    "signs and percentages": r"""
        −4 | -4
        - 4 | -4
        +4 | 4
        -\frac{3}{4} | \frac{-3}{4}
        \frac{3}{-4} | -0.75
        12.5\% | \frac18
        12.5\% | 12.5
        -(-3) | 3
        33\frac13\% | \frac13
        """,
    "fractions and decimals": r"""
        2\frac{2}{3} | \frac83
        2 2/3 | 8/3
        2⅔ | 8/3
        10 ½ | 10.5
        -2\frac13 | -\frac{7}{3}
        0.1\overline{6} | 1/6
        0.\overline{142857} | \frac17
        0.(3) | \frac{1}{3}
        0.\bar{3} | \frac13
        1e-05 | 0.00001
        1.5\times10^{3} | 1500
        1.5 × 10^3 | 1500
        3 \cdot 10^{-2} | 0.03
        2.50 | \tfrac52
        \dfrac{4}{6} | \frac23
        \frac1{20} | .05
        2e3 | 2000
        3 : 4 | 6:8
        3:5 | 0.6
        2\frac{5}{3} | \frac{10}{3}
        """,
    "shorthands": r"""
        \sqrt[3]5 | \sqrt[3]{5}
        \sqrt7 | 7^{1/2}
        \frac\pi2 | \pi/2
        √12 | 2\sqrt3
        x³−2x | x^3 - 2x
        2π | 2\pi
        \frac{\sqrt3}2 | \frac{\sqrt{3}}{2}
        sqrt(2)/2 | \frac{\sqrt{2}}{2}
        x^2*y | x^{2}y
        a·b | ab
        2**5 | 32
        ∛8 | 2
        \sin^2 x | (\sin x)^2
        \lvert -5\rvert | 5
        \(\frac{1}{2}\) | 0.5
        $\boxed{7}$ | 7
        \boxed{\text{even}} | even
        3\cdot 4 | 12
        \log_2 8 | 3
        α+1 | 1+\alpha
        \dbinom{5}{2} | 10
        5! | 120
        \sin 30^\circ | \frac12
        x_1 + x_2 | x_{2}+x_{1}
        """,
    "equations and names": r"""
        x=5 | 5
        y = 3x - 1 | 3x-1
        f(x) = x^2 | x^2
        2x - y = 4 | y = 2x - 4
        x + y = 1 | 2x + 2y = 2
        \theta = \frac{\pi}{3} | \pi/3
        \text{Area} = 30 | 30
        \frac{12}{4} = 3 | 3
        x \approx 3.7 | 3.7
        AB = 10 | 10
        x = \frac{6}{4} = 1.5 | \frac{3}{2}
        """,
    "words": r"""
        \text{Yes} | yes
        \textbf{(B)} | B
        (D) | \text{D}
        \text{Tuesday.} | Tuesday
        \mathrm{even} | even
        3:00\text{ p.m.} | 3:00 PM
        \text{no solution} | \emptyset
        """,
    "bases": r"""
        1011_2 | 1011_{2}
        2A_{16} | 2A_{16}
        13_{\text{seven}} | 13_7
        1011 | 1011_2
        """,
    "matrices": r"""
        \begin{bmatrix}1&0\\0&1\end{bmatrix} | \begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}
        \begin{pmatrix} 0.5 \\ \sqrt{4} \end{pmatrix} | \begin{pmatrix} 1/2 \\ 2 \end{pmatrix}
        \begin{pmatrix} 3 \\ -7 \end{pmatrix} | (3,-7)
        \begin{vmatrix}1&2\\3&4\end{vmatrix} | -2
        \left(\begin{array}{cc}1&2\\3&4\end{array}\right) | \begin{pmatrix}1&2\\3&4\end{pmatrix}
        """,
    "expressions": r"""
        (x+1)^2 | x^2+2x+1
        \frac{1}{\sqrt2} | \frac{\sqrt2}{2}
        \sqrt{50} | 5\sqrt{2}
        2^{10} | 1024
        e^{i\pi} | -1
        \ln e^3 | 3
        \frac{x^2-1}{x-1} | x+1
        \tan x | \frac{\sin x}{\cos x}
        n(n+1)/2 | \frac{n^2+n}{2}
        ad - bc | -bc + ad
        \frac{ad-bc}{2} | \frac12(ad - bc)
        """,
    "of all kinds": r"""
        1,5,10 | 10, 5, 1
        1 and 5 | 1, 5
        1, 5 and 10 | 10,5,1
        1, 5, & 10 | 10,5,1
        1, 5 \text{and} 10 | 1,5,10
        $2$ and $3$ | 2,3
        $x=2$ or $x=3$ | 2,3
        \(2\), \(3\) | 2,3
        [1, 2, 3] | 1,2,3
        {1, 2, 3} | 1,2,3
        (1), (2) | 1,2
        10, 20, 30 | \{10, 20, 30\}
        4\text{ or }5 | \{4,5\}
        -5, 5 | \pm5
        x = -5 \text{ and } x = 5 | \pm 5
        a=1,b=2 | b=2, a=1
        (a,b)=(1,2) | a=1, b=2
        a = 1 \text{ and } b = 2 | (1,2)
        10,080 | 10080
        10,\!080 | 10,080
        1\,000\,000 | 10^6
        \$1{,}000{,}000 | 1 million
        2.5 million | 2.5\times 10^6
        2.5M\text{ people} | 2.5M\text{ people}
        \text{3 million} | 3 \cdot 10^6
        $3.2$ billion | 3200000000
        3,200 thousand | 3.2 million
        half a million | 500000
        \text{a dozen} | 12
        5 dozen eggs | 60
        5\% | 0.05
        5 \text{ percent} | 5\%
        \text{five percent} | five percent
        5 or more people | 5 people or more
        \text{at least }5 | x \ge 5
        \geq 5 | \text{at least }5
        \ge 5 | [5,\infty)
        5+\text{ or more} | 5+\text{ or more}
        more than 5 | >5
        no more than 5 | \le 5
        x\geq5 | 5\leq x
        \mathrm{e} | e
        e^{\mathrm{i}\pi}+1 | 0
        \mathrm{i}\sqrt{3} | \sqrt{3}i
        -\mathrm{i} | -i
        2+3\,\mathrm{i} | 2+3i
        2\mathrm{e}^{3} | 2e^3
        \ln\mathrm{e} | 1
        2 \mathrm{i} | 2\imath
        \frac{1+\mathrm{i}}{2} | \frac12+\frac12 i
        \sqrt[4]2 | 2^{1/4}
        \sqrt[3] {2} | 2^{\frac13}
        \sqrt 2 | \sqrt{2}
        2\sqrt 3 | \sqrt{12}
        \frac 1 2 | \frac12
        \frac 1{2} | 0.5
        \frac{1}2 | 0.5
        \frac{\sqrt 2}2 | \frac{\sqrt{2}}{2}
        \dfrac{\sqrt2}{2} | \sin 45^\circ
        \tfrac{3}{4} | 3/4
        \left(\dfrac{1}{2}\right) | 0.5
        \{ \} | \emptyset
        \{\,\} | \varnothing
        \left\{\right\} | \emptyset
        \O | \emptyset
        x⁻¹ | \frac1x
        x₁ | x_1
        10⁻³ | 0.001
        ½ | 0.5
        1½ | 1.5
        3¾ | \frac{15}{4}
        −½ | -0.5
        √2/2 | \frac{\sqrt2}{2}
        2√3 | 2\sqrt{3}
        √(x+1) | \sqrt{x+1}
        3×10⁵ | 300000
        π/4 | \frac{\pi}{4}
        ∞ | \infty
        −∞ | -\infty
        (−∞, 3] | x≤3
        x ≠ 3 | x \neq 3
        x∈[0,1] | [0,1]
        θ = π/6 | \frac{\pi}{6}
        5 cm | 5
        5\,cm | 5
        5 \, \text{cm} | 5
        5\ \text{cm} | 5
        5~\text{cm} | 5
        5\mathrm{\ cm} | 5
        5\mathrm{~cm} | 5
        5 \text{cm}^2 | 5
        5\text{ cm}^{2} | 5
        5 cm^2 | 5
        5cm² | 5
        5 sq cm | 5
        5 square cm | 5
        5 \text{ sq. units} | 5
        \text{5 square units} | 5
        5 \text{ m}^2/\text{s} | 5
        5\,\frac{\text{m}}{\text{s}} | 5
        5\text{ miles/hour} | 5
        5 miles per hour | 5 mph
        5 ft | 5
        \$5 | 5
        $5 | 5
        \$5.00 | 5
        5\$ | 5
        USD 5 | 5
        5 USD | 5
        5 € | 5
        €5 | 5
        45° | 45^\circ
        45^{\circ} | 45 \text{ degrees}
        45^\circ C | 45
        45^\circ\mathrm{F} | 45
        45 deg | 45
        25 \text{ years old} | 25
        25 years | 25
        \text{25 students} | 25
        25\text{ students} | 25
        \text{Answer: } 25 | 25
        \text{The answer is } 25 | 25
        (-\infty, -1) \cup (1, \infty) | x > 1 \text{ or } x < -1
        (-\infty, -1) \cup (1, \infty) | |x| > 1
        x>1 or x<-1 | x < -1, x > 1
        -1 < x < 1 or x > 3 | (-1,1)\cup(3,\infty)
        -1 < x < 1, x > 3 | (-1,1)\cup(3,\infty)
        x \in (-\infty,-1) \text{ or } x \in (1,\infty) | (-\infty,-1)\cup(1,\infty)
        (-\infty,-1) \text{ or } (1,\infty) | (-\infty,-1)\cup(1,\infty)
        (-\infty,-1) \text{ and } (1,\infty) | (-\infty,-1)\cup(1,\infty)
        x \le -2 \ \text{or}\ x\ge 2 | (-\infty,-2]\cup[2,\infty)
        \{x : x > 2\} | (2,\infty)
        \{x \mid x \ge 2\} | [2,\infty)
        \{x \in \mathbb{R} \mid x \neq 0\} | (-\infty,0)\cup(0,\infty)
        x \in \mathbb{R}, x \neq 0 | \mathbb{R}\setminus\{0\}
        \mathbb{R} - \{0\} | x \ne 0
        x \ne 1, 2 | x \ne 1, x\ne 2
        0 \le y \le 1 | [0,1]
        y \in [0,1] | [0,1]
        a \in (1,2) | 1<a<2
        [0,1)\cup\{2\} | \{2\} \cup [0,1)
        1\frac12 | 1.5
        1 \frac{1}{2} | 3/2
        1\tfrac12 | 3/2
        1\,\frac{1}{2} | 3/2
        1-1/2 | 1/2
        -1 1/2 | -1.5
        2 \text{ and } \frac{1}{2} | 2, 1/2
        0.\overline{09} | 1/11
        0.1\overline6 | 1/6
        0.\dot{3} | 1/3
        0.333\ldots | 1/3
        0.333... | 1/3
        0.\overline9 | 1
        6.02\times10^{23} | 6.02e23
        6.02E23 | 6.02 \cdot 10^{23}
        1.0 \times 10^{-5} | 1e-5
        1e5 | 100000
        1E-3 | .001
        101_{2} | 101_2
        (101)_2 | 101_2
        101_{(2)} | 101_2
        101 \text{ base } 2 | 101_2
        101 \text{ (base 2)} | 101_2
        \begin{pmatrix}1\\2\end{pmatrix} | \begin{bmatrix}1\\2\end{bmatrix}
        \begin{pmatrix}1&2\end{pmatrix} | (1,2)
        \left[\begin{matrix}1&2\\3&4\end{matrix}\right] | \begin{pmatrix}1&2\\3&4\end{pmatrix}
        \begin{pmatrix}\frac12\\0\end{pmatrix} | \begin{pmatrix}0.5\\0\end{pmatrix}
        \begin{pmatrix}1 \\[4pt] 2\end{pmatrix} | \begin{pmatrix}1\\2\end{pmatrix}
        \begin{cases} x=1\\ y=2\end{cases} | x=1,y=2
        f^{-1}(x) = 2x | 2x
        y=x+1 | x+1
        y - x = 1 | y = x+1
        (x-1)^2+y^2=4 | y^2+(x-1)^2 = 4
        \angle A = 30^\circ | 30
        m = 5 \text{ kg} | 5
        (1,2,3) | \langle 1,2,3\rangle
        (1,2,3) | [1,2,3]
        1 : 2 : 3 | 2:4:6
        \text{(A) } 5 | 5
        \textbf{(A)}\ 5 | A
        C | \text{C}
        \text{(C)} | C.
        \mathbf{C} | C
        \text{Monday} | monday
        True | \text{true}
        \text{yes.} | Yes
        \text{DNE} | DNE
        x^2+2x | x(x+2)
        2x+3y | 3y+2x
        \frac{x}{2} | \frac12x
        \frac{x}{2} | x/2
        3!\cdot 2 | 12
        \binom{4}{2} | 6
        {4 \choose 2} | 6
        \cos^2 x | (\cos x)^2
        \sec^2\theta - 1 | \tan^2\theta
        \log 100 | 2
        \log_{10} 100 | 2
        e^{\ln 2} | 2
        |{-3}| | 3
        \lfloor 3.7 \rfloor | 3
        \sum_{k=1}^{3}k | 6
        \frac{a}{b}\cdot\frac{c}{d} | \frac{ac}{bd}
        k\pi, k\in\mathbb{Z} | \pi k, k \in \mathbb{Z}
        n\pi | \pi n
        2\pi k \text{ for integer } k | 2\pi k \text{ for integer } k
        i | \sqrt{-1}
        2\ | 2
        2. | 2
        2\text{.} | 2
        \approx 2.5 | 2.5
        \boxed{2} | 2
        \boxed{x=2} | 2
        \fbox{2} | 2
        $$2$$ | 2
        \[2\] | 2
        $\frac{1}{2}$ | .5
        \text{$\frac{1}{2}$} | .5
        \mathbf{2} | 2
        {2} | 2
        \color{red}{2} | 2
        2\;\;\; | 2
        \text{no real solutions} | \text{no real solutions}
        \text{None} | \text{none}
        """,
}

DIFFERENT: dict[str, str] = {
    "lists": r"""
        25040 | 250, 40
        250, 40 | 250
        7, 45 | 7, 44
        1, 2 | 1, 2, 3
        2, 3 | 23
        1, 1, 2 | 1, 2
        \pm 3 | 3
        2 \pm i | 2 \pm 2i
        (1,2), (3,4) | (1,3), (2,4)
        5; 6 | 56
        x = 2 \text{ or } x = 3 | x = 2
        """,
    "thousands": r"""
        1, 234 | 1234
        1,23 | 123
        12,34 | 1234
        1234,567 | 1234567
        1,000 | 1
        100,200 | 200,100
        3 4 | 34
        1,5 | 1.5
        """,
    "sets": r"""
        \{1,2\} | \{1,2,3\}
        \{1,2\} | [1,2]
        \emptyset | 0
        \{0\} | \emptyset
        \{1,2\} | \{12\}
        """,
    "tuples": r"""
        (1,2) | (2,1)
        (1,234) | 1234
        (3,-4) | (3,4)
        x=3, y=-4 | (-4,3)
        (1,2,3) | (1,2)
        (1, 2) | 1.2
        """,
    "intervals and inequalities": r"""
        (1,2) | [1,2]
        (1,2] | [1,2)
        x > 2 | x \ge 2
        x > 2 | x < 2
        x > 2 | 2
        x > 2 | y > 2
        [1,\infty) | [1,2)
        -3 < x < 5 | -3 < x \le 5
        (-\infty, 4) | (4, \infty)
        x \ne 2 | 2
        x \ne 2 | \mathbb{R}
        """,
    "unions": r"""
        (-\infty,0) \cup (0,\infty) | \mathbb{R}
        x < -1 \text{ or } x > 3 | (-1,3)
        x < -1 \text{ or } x > 3 | (-\infty,-1] \cup [3,\infty)
        (1,2) \cup (3,4) | (1,4)
        (1,2) \cup (3,4) | (1,2)
        x<-2 \text{ and } x>2 | x<-2 \text{ or } x>2
        (0,5) \cap (2,9) | (0,9)
        """,
    "number words": r"""
        4\text{ million} | 4
        4 million | 4 billion
        7 \text{ thousand} | 7
        two dozen | 2
        8 \text{ or more} | 8
        8 \text{ or more} | 8 \text{ or less}
        \text{at least } 8 | 8
        \text{at least } 8 | \text{more than } 8
        \text{fewer than } 6 | 6
        25 percent | 2500
        half | 2
        3 \text{ squared} | 3
        \text{not } 5 | 5
        5\text{ to }7 | 57
        \text{three quarters} | 3
        \text{four} | 4
        \text{twenty-one} | 20
        """,
    "upright constants": r"""
        3+2\mathrm{i} | 5
        3+2\mathrm{i} | 3-2i
        4\mathrm{i} | 4
        3\mathrm{e} | 3
        \mathrm{e} | 1
        2\text{i} | 2
        \mathrm{e}^{2} | 2
        """,
    "units": r"""
        5\text{ cm} | 6\text{ cm}
        5\text{ cm} | 5\text{ m}
        3 \text{ hours} | 3 \text{ minutes}
        30^\circ | 60^\circ
        5ab | 5
        3m | 3
        2x | 2
        \$5 | 5 \text{ cents}
        12\text{ cm}^2 | 144
        """,
    "signs and percentages": r"""
        −4 | 4
        -x | x
        12\% | 0.012
        -\frac34 | \frac34
        20\% | 0.02
        -(3-x) | -3-x
        """,
    "fractions and decimals": r"""
        2\frac{2}{3} | 2
        2\frac{2}{3} | \frac43
        10 ½ | 10
        10 ½ | 5
        0.\overline{3} | 0.3
        0.67 | \frac23
        1e-05 | 1e-5x
        1.5\times10^{3} | 1.5
        2 2/3 | 22/3
        3:4 | 4:3
        3.14 | \pi
        1e-05 | 1
        """,
    "shorthands": r"""
        \sqrt[3]5 | \sqrt5
        \sqrt[3]5 | 3\sqrt5
        x² | x2
        x² | 2x
        \frac\pi2 | 2\pi
        √12 | √2
        \sqrt{2} | 2
        \sqrt{16} | -4
        x_1 | x_2
        f'(x) | f(x)
        """,
    "equations and names": r"""
        x=5 | x=-5
        x=5 | y=5
        y = 3x - 1 | y = 3x + 1
        2x - y | 2x - y = 0
        x + y = 1 | x + y = 2
        \frac{12}{4} = 4 | 4
        x = 5 | x > 5
        """,
    "words": r"""
        \text{Yes} | \text{No}
        yes | no
        even | odd
        \text{A} | \text{B}
        no | on
        3:00\text{ p.m.} | 3:00\text{ a.m.}
        \text{east} | \text{seat}
        \text{Tuesday} | \text{Thursday}
        \text{B} | 8
        c | \text{(C)}
        """,
    "bases": r"""
        1011_2 | 1011_3
        1011_2 | 11
        13_7 | 31_7
        """,
    "matrices": r"""
        \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | \begin{pmatrix} 1 & 3 \\ 2 & 4 \end{pmatrix}
        \begin{pmatrix} 1 \\ 2 \end{pmatrix} | \begin{pmatrix} 1 & 2 \end{pmatrix}
        \begin{pmatrix} 3 \\ -7 \end{pmatrix} | (-7,3)
        \begin{vmatrix}1&2\\3&4\end{vmatrix} | \begin{pmatrix}1&2\\3&4\end{pmatrix}
        """,
    "expressions": r"""
        (x+1)^2 | x^2+1
        x^{10} | x^{1}0
        \sqrt{x^2+1} | x+1
        \frac{1}{x} | x
        k | K
        e | 2.718281828
        2^{-60} | 0
        n! | n
        \sin x | \cos x
        ad - bc | ab - cd
        """,
    "of all kinds": r"""
        1,5,10 | 1510
        1, 2 | (1,2]
        2,3 | 2.3
        1,000 | 1, 000
        10, 000 | 10000
        150,30 | 15030
        5 or 6 | 56
        5 and 6 | 11
        (2,3) | 23
        (2,3) | \{2,3\}
        (1,2),(3,4) | (1,2,3,4)
        3\text{ thousand} | 3\text{ million}
        3\text{ hundred} | 3
        half a dozen | 12
        6 dozen | 6
        5 \text{ or more} | 5 \text{ or fewer}
        5 \text{ or more} | 5, \text{more}
        \text{over } 5 | 5
        \text{under } 5 | 5
        \text{about half} | 0.6
        \text{less than } 5 | 5
        5 \text{ less} | 5
        5 \text{ squared} | 5
        5\text{ factorial} | 5
        \text{negative } 5 | 5
        5 \text{ times } x | 5
        \mathrm{i} | 1
        5\mathrm{i} | 5
        5\mathrm{e} | 5
        2\mathrm{e}^{3} | 2
        \sqrt[3]{8} | \sqrt{8}
        x² | x
        x³ | x²
        x2 | x^2
        2^3 | 23
        5cm | 5c
        5 cm | 5 cm + 1
        5\text{ kg} | 5\text{ g}
        1\text{ hour} | 1\text{ minute}
        \$5 | \$50
        -5^\circ | 5^\circ
        x > 1 \text{ or } x < -1 | x > 1
        x > 1 \text{ or } x < -1 | -1<x<1
        (-\infty,-1)\cup(1,\infty) | (-\infty,-1)\cup[1,\infty)
        (-1,1) | [-1,1]
        (-1,1) | (1,-1)
        x<2 | 2
        x \le 2 | x < 2
        \emptyset | \{0\}
        \emptyset | \{\emptyset\}
        1\frac12 | 1\cdot\frac12
        1 1/2 | 11/2
        2\frac{1}{3} | \frac{2}{3}
        0.3 | 0.\overline{3}
        0.12 | 0.\overline{12}
        1e5 | 15
        1e-5 | 1e5
        1.5\times10^{3} | 1.5\times10^{2}
        101_2 | 101_3
        10_2 | 2_3
        \begin{pmatrix}1\\2\end{pmatrix} | \begin{pmatrix}2\\1\end{pmatrix}
        x=1 | x=-1
        x=1,y=2 | x=2,y=1
        y=x+1 | y=x-1
        y=x+1 | x=y+1
        3:5 | 5:3
        A | B
        (A) | (B)
        \text{Monday} | \text{Tuesday}
        x^2 | x^3
        \frac{1}{2} | \frac{1}{3}
        2\pi | 2
        \pi | 3.14
        \pi | 3.14159
        1/3 | 0.333
        \sqrt2 | 1.414
        \sqrt2 | 1.41421356
        10 | 100
        5 | -5
        5 | 5x
        5 | 5!
        x | y
        \ln 2 | \log 2
        \sin x | x
        i | 1
        e | 2.718
        a.m. | p.m.
        10 a.m. | 10 p.m.
        3:30 | 3:03
        1:30 | 130
        2k | 2
        2k+1 | 2k
        5 R 2 | 5
        5 \text{ remainder } 2 | 5
        2 \text{ cm}, 3\text{ cm} | 2
        \frac{1}{2}, 1 | \frac{1}{2}
        3 hours and 20 minutes | 3
        3 hours 20 minutes | 3
        3\text{ hours } 20\text{ minutes} | 320
        5 \text{ feet } 3 \text{ inches} | 5
        20\% | 20\text{ thousand}
        f(x) | f(y)
        x+y=1 | x+y
        3 \text{ out of } 5 | 3
        3 \text{ of } 5 | 35
        1.000 | 1000
        1.234 | 1234
        1'000 | 1
        """,
}


def pairs(table: dict[str, str]) -> list[tuple[str, str, str]]:
    """Kind, one, other."""
    lines = [(kind, line.strip().partition(" | ")) for kind, text in table.items() for line in text.strip().splitlines()]
    return [(kind, one, other) for kind, (one, _, other) in lines]
